"""Phrasings put together from parts, so that no opening of a question tells its kind.

A part is a pattern: `[a|b]` stands for one of its alternatives, which may hold further brackets. Every frame ("Can you tell
me ...", "请问...") goes round the parts of every kind.
"""
import functools
import re

PLACES = {"en": "[picture|image|photo|drawing|picture|image]", "zh": "[图中|图里|图片里|图片中|图上|图像中|画面中|这张图里|这张图片中|照片里|画里]"}

# direct questions, the same as a clause inside another sentence, and the thing asked for as a noun
PARTS = {
    "en": {
        "shape": {
            "ask": ["[what|which] SHAPE [is this|is it|is that|is shown|is shown HERE|is HERE|is drawn|is drawn HERE|do you see|do you see HERE|can you see|can be seen|can be seen HERE|is there|does PIC show|does PIC contain|is visible|appears HERE|is depicted]",
                    "what is the [shape|form] [HERE|of the OBJECT|of this OBJECT|of this|of it|shown]", "what shape [has|does] the OBJECT [have|take]",
                    "[is it|is this] a [circle, square or triangle|square, a circle or a triangle|triangle, square or circle]"],
            "clause": ["[what|which] SHAPE [this is|it is|that is|is shown|is shown HERE|is HERE|is drawn|you see|you can see HERE|there is|PIC shows|PIC contains|appears HERE|is visible|the OBJECT has|the OBJECT is]",
                       "what the [shape|form] [is|HERE is|of the OBJECT is]", "[if|whether] [it|this] is a [circle, a square or a triangle|triangle, circle or square]"],
            "noun": ["the SHAPE [|HERE|HERE|shown|drawn HERE|you see|of the OBJECT|of this OBJECT]", "the name of the [shape|figure]", "the [kind|type] of shape [|HERE]"]},
        "shape_of_colour": {
            "ask": ["[what|which] SHAPE is [{c}|the {c} one|the {c} OBJECT|coloured {c}]", "what is the [shape|form] of the {c} [OBJECT|one]",
                    "[what|which] SHAPE does the {c} [OBJECT|one] have", "the {c} [OBJECT|one] [is|has] [what|which] SHAPE"],
            "clause": ["[what|which] SHAPE [is {c}|the {c} one is|the {c} OBJECT is|the {c} OBJECT has|has the COLOUR {c}]", "what the shape of the {c} [OBJECT|one] is"],
            "noun": ["the [shape|form] of the {c} [OBJECT|one]", "the {c} [shape|figure]", "the name of the {c} [shape|figure]"]},
        "colour": {
            "ask": ["[what|which] COLOUR is the {o} [||HERE]", "[what|which] COLOUR does the {o} [|HERE] have", "what is the COLOUR of the {o} [|HERE]",
                    "[what|which] COLOUR [has|is used for] the {o}", "is the {o} [red, blue, green or yellow|yellow, green, red or blue]", "the {o} [is|has] [what|which] COLOUR",
                    "in [what|which] COLOUR is the {o} [shown|painted|filled]"],
            "clause": ["[what|which] COLOUR the {o} [is|has|HERE is|HERE has]", "[what|which] COLOUR is used for the {o}", "what the COLOUR of the {o} is", "in [what|which] COLOUR the {o} is [drawn|shown]"],
            "noun": ["the COLOUR of the {o} [||HERE]", "the COLOUR of this {o}", "the {o}'s COLOUR", "the name of the {o}'s COLOUR"]},
        "colours": {
            "ask": ["[what|which] COLOUR are the {o} [|HERE]", "[what|which] COLOUR do the {o} have", "what is the COLOUR of these {o}", "[what|which] COLOUR are [these|all|those] {o}"],
            "clause": ["[what|which] COLOUR the {o} [are|have]", "what the COLOUR of the {o} is", "[what|which] COLOUR [these|all the] {o} have"],
            "noun": ["the COLOUR of [the|these|all the|the] {o} [||HERE]"]},
        "colour_any": {
            "ask": ["[what|which] COLOUR [is this|is it|is that|is it HERE|is shown|is HERE|do you see|do you see HERE|can you see|is there|does PIC show|is used|has it|does it have]", "what is the COLOUR [HERE|of it|of this|shown]"],
            "clause": ["[what|which] COLOUR [this is|it is|that is|is shown|is HERE|you see|it has|PIC shows|is used]", "what the COLOUR [|HERE] is"],
            "noun": ["the COLOUR [|HERE|of it|of this|shown|you see]", "the name of the COLOUR"]},
        "count": {
            "ask": ["how many {p} [are there|are there HERE|are HERE|do you see|do you see HERE|can you see|can you see HERE|are shown|are shown HERE|are visible|are drawn|are drawn HERE|does PIC show|does PIC contain|does PIC have|can be seen|can be counted|exist HERE|do you count]",
                    "what is the [|total] number of {p} [|HERE]", "what number of {p} [is there|do you see|can be seen|is HERE]", "how many are the {p}"],
            "clause": ["how many {p} [there are|there are HERE|are HERE|you see|you can see HERE|are shown|are visible|are drawn HERE|PIC shows|PIC contains|can be seen]", "what the number of {p} is"],
            "noun": ["the [|total|exact] number of {p} [||HERE]", "the count of [|all] {p} [|HERE]", "the amount of {p} [|HERE]"]},
        "place": {
            "ask": ["where is the {o} [||HERE]", "where in PIC is the {o}", "where [can the {o} be found|does the {o} appear|is the {o} to be found|do you find the {o}|can I find the {o}|can I see the {o}]",
                    "[in which|in what|which] [part|area|region|corner|side|section] of PIC [is|contains] the {o}", "what is the [position|location|place] of the {o} [|HERE]", "where is the {o} [positioned|drawn|shown|situated]",
                    "the {o} is where"],
            "clause": ["where the {o} is [||HERE]", "where in PIC the {o} is", "in [which|what] [part|area|region] of PIC the {o} is", "where [I can find the {o}|the {o} can be found|the {o} is drawn|the {o} is located|the {o} sits]", "what the position of the {o} is"],
            "noun": ["the [position|location|place] of the {o} [||HERE]", "the {o}'s [position|location]", "the [part|area|region] of PIC [where the {o} is|with the {o}]"]},
        "read": {
            "ask": ["what is [written|written HERE|written on it|printed|printed HERE|spelled HERE|to be read HERE]", "what [does|do] [the text say|it say|this say|PIC say|the writing say|the text read|it read|the letters say|the letters spell|the word say]",
                    "[what|which] [text|word|writing|code|string] [is this|is it|is shown|is HERE|is written|is written HERE|do you see|can you see HERE|does PIC show|does PIC contain|is there|can you read]",
                    "[what|which] [letters|characters|letters and digits|symbols] [are shown|are HERE|are written|do you see|can you see HERE|can you read|does PIC show|are these|are there]",
                    "what is the [text|word|writing|code|lettering] [||HERE]", "what are the [letters|characters] [||HERE]"],
            "clause": ["what is [written|written HERE|printed|printed HERE]", "what [the text|it|this|PIC|the writing|the word|the sign] says", "what the [text|word|writing|code] [|HERE] is", "what the [letters|characters] [|HERE] are",
                       "[what|which] [text|word|code] [this is|it is|is shown|is HERE|is written HERE|you see|you can read|PIC shows]", "[what|which] [letters|characters] [are shown|are HERE|are written|you see|you can read HERE|these are]", "what you [read|can read] [|HERE]"],
            "noun": ["the [text|word|writing|code|letters|characters|string|lettering|written text] [||HERE|HERE|shown|written HERE|you see]", "all [letters|characters] [|HERE]"]},
        "what": {
            "ask": ["what is [HERE|this|it|that|shown|shown HERE|drawn|drawn HERE|depicted|depicted HERE|visible HERE|to be seen HERE]", "what [do you see|can you see|do we see|can be seen|is there to see] [|HERE]", "what does PIC [show|contain|depict|display]", "what is PIC [of|about]"],
            "clause": ["what is [HERE|shown|shown HERE|drawn HERE|depicted HERE|visible HERE]", "what [this is|it is|that is|you see|you can see|you see HERE|PIC shows|PIC contains|can be seen HERE|there is HERE]"],
            "noun": ["the content of PIC", "the contents of PIC", "what is HERE", "everything HERE"]},
    },
    "zh": {
        "shape": {
            "ask": ["LOC[是|有|画的是|显示的是|出现了|能看到]WHICH[形状|图形]", "[这|它|这个|那][是|属于]WHICH[形状|图形]", "[LOC的|这个|]OBJECT[是|的形状是]WHICH[形状|图形]", "你[看到|看见]的是WHICH[形状|图形]", "LOC的形状是什么", "[它|这]是[圆形、三角形还是正方形|正方形、圆形还是三角形]"],
            "noun": ["[LOC的|]形状", "[LOC的|这个]OBJECT的形状", "[LOC的|]图形的[名称|形状]", "LOC是WHICH形状"]},
        "shape_of_colour": {
            "ask": ["[LOC|]{c}的[OBJECT|那个|]是WHICH[形状|图形]", "[LOC|]WHICH形状是{c}的", "{c}[OBJECT|的OBJECT]的形状是什么"],
            "noun": ["[LOC|]{c}[|的]OBJECT的形状", "{c}的那个是WHICH形状", "[LOC|]{c}的形状"]},
        "colour": {
            "ask": ["[LOC的|这个|那个||]{o}是WHICH颜色[|的]", "[LOC|]{o}的颜色是[什么|哪种|哪一种|红、绿、蓝还是黄]", "{o}是[红色、黄色、绿色还是蓝色|黄色还是红色、蓝色、绿色]", "[LOC|]{o}[用的是|画成了|涂的是|有]WHICH颜色"],
            "noun": ["[LOC的|LOC|这个||]{o}的颜色", "[LOC|]{o}是WHICH颜色"]},
        "colours": {
            "ask": ["[LOC的|这些|那些|]{o}是WHICH颜色[|的]", "[LOC|]{o}的颜色是什么", "{o}都是WHICH颜色[|的]"], "noun": ["[LOC的|这些|]{o}的颜色", "这些{o}是WHICH颜色"]},
        "colour_any": {
            "ask": ["[LOC|这|它|这个|那]是WHICH颜色[|的]", "LOC[有|能看到|用了]WHICH颜色", "你看到的是WHICH颜色", "[LOC的|它的|]颜色是什么"], "noun": ["[LOC的|它的||]颜色", "这是WHICH颜色"]},
        "count": {
            "ask": ["[LOC|][有|共有|一共有|总共有|画了|出现了|能看到|能数出|包含]MANY{p}", "{p}[有|一共有|共有|总共有]MANY", "[LOC|]{p}的[数量|数目|个数|总数]是多少", "你[能看到|看到|数到]MANY{p}", "[LOC|]MANY{p}"],
            "noun": ["[LOC|LOC的|]{p}的[数量|个数|数目|总数]", "[LOC|]有MANY{p}", "{p}有MANY"]},
        "place": {
            "ask": ["[LOC的|]{o}在[哪里|哪儿|哪|什么地方|什么位置|哪个位置|哪个方位|图的哪里|图片的什么位置|图中哪里|画面的哪个部分|图片的哪一边|图片哪个角落]", "[LOC|]{o}的位置[是哪里|在哪|是什么|在哪儿]", "{o}[位于|处于|出现在|画在][哪里|图中哪里|图片的哪里|什么位置|哪个部分]"],
            "noun": ["[LOC|LOC的|]{o}的位置", "{o}在[哪里|哪儿|什么位置]", "{o}[位于|画在]哪里"]},
        "read": {
            "ask": ["[LOC|上面|这里|][写着|写了|写的是|印着|印了|显示了|有][什么|哪些字|什么字|什么文字|哪些字母|哪些字符]", "[LOC的|][文字|字|字母|字符|单词|内容|文本]是什么", "[文字|字|牌子][写着|写的是|说了|上写着]什么", "你[看到|能读出|读到][了|][什么字|什么文字|哪些字母|哪些字符]", "[这|它]是[什么字|什么文字|哪些字母]"],
            "noun": ["[LOC的|LOC的|上面的|这些|][文字|字|字母|字符|文字内容|文本|单词]", "LOC写的[字|内容|文字]", "[LOC|上面]写了什么"]},
        "what": {
            "ask": ["[LOC|这里|上面]有[什么|什么东西|些什么|哪些东西]", "LOC[是|画的是|画了|出现了|展示了|能看到]什么", "[这|它|这张图|这幅画|这张图片]是什么", "你[在LOC看到|在LOC看见|看到|能看到][了|]什么", "[图片|这张图|画面][展示|显示|画]了什么"],
            "noun": ["LOC[有什么|是什么|的内容|的东西]", "这张[图|图片|图像]的内容", "你看到了什么", "这是什么"]},
    },
}
WORDS = {
    "en": {"SHAPE": "[shape|shape|shape|kind of shape|type of shape|sort of shape|geometric shape|figure|geometric figure|form]", "COLOUR": "[colour|color]", "OBJECT": "[object|figure|shape|thing|item]",
           "HERE": "[here|in PIC|in PIC|in PIC]", "PIC": f"[the|this|the] {PLACES['en']}"},
    "zh": {"WHICH": "[什么|什么|哪种|哪一种|哪个|何种|啥]", "LOC": PLACES["zh"], "OBJECT": "[图形|物体|东西|形状]", "MANY": "[几个|多少个|多少|几个]"},
}
FRAMES = {
    "en": {
        "ask": ["{}?"] * 8 + ["Question: {}?", "In PIC, {}?", "Look at PIC: {}?", "Looking at PIC, {}?", "Please answer: {}?", "[Hi|Hello|Hey], {}?", "So, {}?", "OK, {}?", "Quick question: {}?", "Tell me, {}?", "Please, {}?", "Q: {}?",
                "Given PIC, {}?", "[Well|Now], {}?", "From PIC, {}?", "Do you know: {}?", "Can you tell: {}?", "Based on PIC, {}?"],
        "clause": ["Can you tell [|me|me|us] {}?", "Could you [|please] tell me {}?", "Could you tell {}?", "Please tell me {}.", "Please tell {}.", "Tell me {}.", "[I want|I would like|I'd like|I need|We want] to know {}.", "Do you know {}?",
                   "[Can|Could] you say {}?", "[Can|Could] you [see|explain|find out|determine|recognise|work out|make out] {}?", "[Please say|Say|State|Explain|Report|Write|Determine|Please determine|Find out|Decide|Answer] {}.", "Let me know {}.", "Would you [|please] tell me {}?",
                   "I wonder {}.", "Look at PIC and [say|tell me] {}.", "Are you able to [say|tell|tell me] {}?", "Do you see {}?", "Will you tell me {}?", "Please let me know {}.", "Any idea {}?", "[Help me|Help me to] see {}.", "I am asking {}.", "Tell us {}."],
        "noun": ["[Can|Could] you [|please] [tell me|give me|name|give|identify|say|tell|recognise|state|find|determine] {}?", "[|Please] [give me|tell me|give|name|identify|say|state|write|report|determine|find|output|recognise] {}.", "[I want|I would like|I'd like|I need] to know {}.",
                 "[I want|I need|I would like] {}.", "Do you know {}?", "{}", "{}?", "{}, please.", "Let me know {}.", "[Would|Will] you [|please] [tell|name|give] me {}?", "Look at PIC and [name|give|tell me] {}.", "Do you see {}?"]},
    "zh": {
        "ask": ["{}？"] * 5 + ["请问{}？", "请问，{}？", "请告诉我{}？", "请告诉我，{}。", "告诉我{}。", "你知道{}吗？", "[能|能不能|可以|你能|你可以]告诉我{}[吗|]？", "[我想知道|我想问|我要知道|想知道][|，]{}。", "[请|你能]说出{}[。|吗？]", "说说{}。", "请回答：{}？", "看图回答：{}？",
                "你能看出{}吗？", "[请|帮我|麻烦]看看{}。", "麻烦告诉我{}。", "问题：{}？", "请看图，{}？", "你好，{}？", "根据图片，{}？", "请说明{}。", "你能说说{}吗？", "看一看，{}？", "那么，{}？", "请判断{}。", "你觉得{}？"],
        "noun": ["请说出{}。", "说出{}。", "[请|]告诉我{}。", "[能|你能|可以|能不能|你可以]告诉我{}吗？", "你能说出{}吗？", "[能|可以]说出{}吗？", "我想知道{}。", "请问{}？", "你知道{}吗？", "请[给出|写出|说明|说一下|回答|指出|判断|识别]{}。", "说说{}。", "说一下{}。", "{}", "{}？", "{}呢？", "麻烦说出{}。", "你能看出{}吗？", "看图说出{}。", "我要知道{}。"]},
}
FORMS = {"en": ["ask"] * 4 + ["clause"] * 3 + ["noun"] * 2, "zh": ["ask", "ask", "noun"]}  # in these shares
OWN = {  # what only one kind of question can open with
    "en": {"count": ["Count [|all|all the|the] {p} [||HERE].", "[Can|Could] you count the {p} HERE?", "[I want you to|Please|You should] count [the|all] {p}."],
           "read": ["[Read|Transcribe|Spell|Spell out|Type|Type out|Copy|Write down|Please read|Please transcribe|Read out] NOUN.", "[Can|Could|Would] you [|please] [read|transcribe|spell] NOUN?", "OCR", "I want you to read NOUN."],
           "what": ["[Describe|Please describe|Briefly describe|Explain|Caption|Summarize] PIC.", "[Can|Could|Would] you [|please] describe [PIC|what you see|it]?", "[Give|Write] a [short|brief|] description of PIC.", "Tell me about PIC.", "I want you to describe PIC.",
                    "Tell me what [you see|is] HERE."],
           "place": ["[Locate|Find|Point to|Please locate] the {o} [|HERE].", "[Can|Could] you [find|locate] the {o} [|HERE]?"]},
    "zh": {"count": ["[请|]数[一数|一下|数][LOC|LOC的|]{p}。", "[请|]数[一数|一下|数][LOC|]有MANY{p}。"],
           "read": ["[请|]读[出|一下|一读|出来]NOUN。", "[请|]把NOUN[读|念|写]出来。", "[请|]识别NOUN。", "[你能|能]读[出|一下]NOUN吗？", "[请|]念[出|一下]NOUN。", "抄写NOUN。"],
           "what": ["[请|][描述|描述一下|介绍|说说|简单描述][这张图|这张图片|这幅画|图片|图像|LOC的内容]。", "[你能|能]描述[|一下]这[张图片|幅图]吗？", "说说LOC有什么。"],
           "place": ["[请|][找出|找到|指出][LOC的|]{o}。", "[请|]指出{o}的位置。"]},
}
AFTER = {"en": ["Answer with one word.", "Answer briefly.", "One word, please.", "Just the answer.", "Give a short answer.", "Be brief.", "Only the answer.", "Please be short.", "Thanks.", "Thank you!", "Please answer in one word.", "Keep it short.", "Please."],
         "zh": ["请用一个词回答。", "简短回答。", "请简短回答。", "只说答案。", "谢谢！", "谢谢。", "用一个词回答。", "请直接回答。"]}


@functools.cache
def parsed(text, lang):
    """A pattern as a list of plain strings and tuples of alternatives, each a list of the same kind."""
    for _ in range(3):
        for word, meaning in WORDS[lang].items():
            text = text.replace(word, meaning)
    stack = [[[]]]  # of brackets, their alternatives, their items
    for token in re.findall(r"[\[\]|]|[^\[\]|]+", text):
        if token == "[":
            stack.append([[]])
        elif token == "|":
            stack[-1].append([])
        elif token == "]":
            options = stack.pop()
            stack[-1][-1].append(tuple(options))
        else:
            stack[-1][-1].append(token)
    return stack[0][0]


def pick(rng, options):
    return options[int(rng.random() * len(options))]


def chosen(rng, items):
    return "".join(i if isinstance(i, str) else chosen(rng, pick(rng, i)) for i in items)


def expand(rng, text, lang):
    """One text of a pattern: words in capitals and `[a|b]`."""
    return re.sub(r" +(?=[ .?,])", "", chosen(rng, parsed(text, lang))).strip()


def essence(text):
    """What is left of a phrasing when case and punctuation do not count."""
    return re.sub(r"[\s.,:!?。，：！？、]+", " ", text.lower()).strip()


def compose(rng, lang, kind, forbidden=()):
    """A new phrasing with the slots of `kind`; never one whose essence is among `forbidden`."""
    while True:
        parts = PARTS[lang][kind]
        own = OWN[lang].get(kind)
        if own and rng.random() < 0.15:
            frame, form = pick(rng, own), "noun"
        else:
            form = pick(rng, FORMS[lang])
            frame = pick(rng, FRAMES[lang][form])
        text = expand(rng, frame.replace("NOUN", "{}").replace("{}", pick(rng, parts[form])), lang)
        if rng.random() < 0.15:
            text = re.sub(r"\b([wW]hat|[wW]here) is\b(?! [?.,]|[?.,]|$)", r"\1's", text)
        text = text[0].upper() + text[1:]
        if rng.random() < 0.10:
            text += (" " if lang == "en" else "") + pick(rng, AFTER[lang])
        if essence(text) not in forbidden:
            return text
