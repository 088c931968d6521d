"""What is asked about a picture, in English and in Chinese, and the one canonical answer.

`ask(rng, scene, lang)` lists the questions that a scene can answer. The last fifth of every list of phrasings is held
out of training (`unseen=True` asks only with those), so that evaluation can measure paraphrases. Training asks with the others,
with those of MORE, and half of the time with what `phrases` puts together.
"""
import functools

import phrases

SHAPE = {"en": {"circle": "circle", "square": "square", "triangle": "triangle"},
         "zh": {"circle": "圆形", "square": "正方形", "triangle": "三角形"}}
SHAPE_ALSO = {"en": {"circle": ["round shape"], "square": ["square shape"], "triangle": ["triangular shape"]},
              "zh": {"circle": ["圆", "圆圈"], "square": ["方形", "方块"], "triangle": ["三角"]}}
COLOUR = {"en": {"red": "red", "green": "green", "blue": "blue", "yellow": "yellow"},
          "zh": {"red": "红色", "green": "绿色", "blue": "蓝色", "yellow": "黄色"}}
NUMBER_WORDS = {"en": ["zero", "one", "two", "three", "four", "five"], "zh": ["零", "一", "二", "三", "四", "五"]}
PLACE = {"en": [["top left", "top", "top right"], ["left", "centre", "right"], ["bottom left", "bottom", "bottom right"]],
         "zh": [["左上角", "上方", "右上角"], ["左边", "中间", "右边"], ["左下角", "下方", "右下角"]]}

ASK = {
    "en": {
        "shape": ["What shape is in the picture?", "What shape is this?", "Which shape is it?", "Which shape do you see?",
                  "What is the shape?", "Name the shape.", "What kind of shape is this?", "Tell me the shape in the image.",
                  "What geometric figure is shown?", "Is it a circle, a square or a triangle?", "What figure is this?",
                  "What shape can you see in the image?", "Identify the shape.", "Which shape is shown here?",
                  "What is the shape of the object?", "What shape is drawn here?", "What form does the object have?",
                  "what shape is it", "What type of shape is in the image?", "What shape does the picture show?",
                  "Which figure is in the picture?", "Please name the shape in this picture.", "What shape is the object?",
                  "Can you tell which shape this is?", "Which geometric shape appears in the image?", "shape?"],
        "shape_of_colour": ["What shape is {c}?", "Which shape is {c}?", "What is the {c} shape?", "What shape is the {c} one?",
                            "What shape does the {c} object have?", "Name the {c} shape.", "The {c} figure is what shape?",
                            "What is the shape of the {c} object?", "Which figure is {c}?", "What kind of shape is {c}?"],
        "colour": ["What colour is the {o}?", "What color is the {o}?", "Which colour is the {o}?", "What is the colour of the {o}?",
                   "What is the color of the {o}?", "Tell me the color of the {o}.", "Which color does the {o} have?", "Name the colour of the {o}.",
                   "The {o} is what color?", "What colour does the {o} have?", "Is the {o} red, green, blue or yellow?", "what color is the {o}",
                   "What color is the {o} in the picture?", "What colour is the {o} in the image?", "Name the color of the {o}.",
                   "Please tell me the colour of the {o}.", "In which colour is the {o} drawn?", "Can you name the color of the {o}?",
                   "The color of the {o}?"],
        "colour_any": ["What colour is it?", "What color is it?", "What color is this?", "Which color do you see?", "Which colour is shown?",
                       "What is the colour?", "What color is in the picture?", "Name the colour.", "What color is shown here?", "Name the color.",
                       "Which colour is this?", "Tell me the color.", "color?"],
        "count": ["How many {p} are there?", "How many {p} are in the picture?", "How many {p} do you see?", "Count the {p}.",
                  "What is the number of {p}?", "How many {p} can you see?", "How many {p} are shown?", "Tell me how many {p} there are.",
                  "Count the {p} in the image.", "What number of {p} is shown?", "How many {p} does the picture contain?", "how many {p}",
                  "How many {p} are in the image?", "How many {p} are there in the picture?", "Please count the {p}.", "How many {p}?",
                  "How many {p} are drawn here?", "Give the number of {p}.", "How many {p} appear in the image?", "Can you count the {p}?"],
        "place": ["Where is the {o}?", "Where is the {o} in the picture?", "In which part of the picture is the {o}?", "Where do you see the {o}?",
                  "What is the position of the {o}?", "Where in the image is the {o}?", "Which part of the image holds the {o}?", "where is the {o}",
                  "Where is the {o} located?", "Tell me where the {o} is.", "At which place is the {o}?", "Where can you find the {o}?",
                  "In what part of the image is the {o}?", "Where is the {o} placed?", "Name the position of the {o}."],
        "read": ["What does the text say?", "Read the text.", "What is written in the picture?", "What text is shown?", "What is written here?",
                 "What does it say?", "Which letters do you see?", "What text do you see?", "Please read the text.", "What is the text in the image?",
                 "Read the letters.", "Which characters are shown?", "What word is in the picture?", "Tell me the text.", "what does it say",
                 "What does the sign say?", "What do the letters say?", "What is the text?", "Read what is written.", "What text is in the image?",
                 "Which text is written in the picture?", "What characters are in the image?", "Transcribe the text.", "Can you read this?",
                 "Spell out the text.", "What does the picture say?", "What letters are written here?", "Read the text in the image.",
                 "What code is shown?", "Please tell me what is written.", "What can you read in the picture?", "What do you read?"],
        "what": ["What is in the picture?", "Describe the picture.", "What do you see?", "What is this?", "Describe the image.",
                 "What is shown in the image?", "What can you see?", "What does the image show?", "what is in the image", "What is in this picture?",
                 "Tell me what you see.", "Please describe this image.", "What is shown here?", "Describe what you see.", "What does this picture show?",
                 "What's in the picture?"],
    },
    "zh": {
        "shape": ["图中是什么形状？", "这是什么形状？", "图片里是什么形状？", "你看到什么形状？", "请说出图中的形状。", "这个图形是什么？", "图里画的是什么形状？",
                  "它是什么形状的？", "图中的图形是什么形状？", "这是圆形、正方形还是三角形？", "这张图里有什么形状？", "是什么图形？", "图中有什么图形？",
                  "画的是什么图形？", "请问这是什么形状？", "图像中是哪种形状？", "这个物体是什么形状？", "告诉我图中的形状。", "图片中的形状是什么？", "请问图里是什么图形？", "图上是哪种图形？"],
        "shape_of_colour": ["{c}的是什么形状？", "{c}的图形是什么形状？", "哪个形状是{c}的？", "什么形状是{c}的？", "{c}的形状是什么？", "{c}的东西是什么形状？",
                            "请说出{c}图形的形状。", "{c}图形是什么？", "{c}的那个是什么形状？"],
        "colour": ["{o}是什么颜色？", "{o}是什么颜色的？", "图中的{o}是什么颜色？", "请说出{o}的颜色。", "{o}的颜色是什么？", "图片里{o}是什么颜色？", "{o}是哪种颜色？",
                   "{o}是红色、绿色、蓝色还是黄色？", "告诉我{o}的颜色。", "图里的{o}是什么颜色的？", "请问{o}是什么颜色？", "图中{o}的颜色是什么？", "{o}呈什么颜色？", "这个{o}是什么颜色？"],
        "colour_any": ["这是什么颜色？", "它是什么颜色的？", "图中是什么颜色？", "你看到什么颜色？", "请说出颜色。", "是什么颜色？", "图里是哪种颜色？", "请问是什么颜色？", "颜色是什么？"],
        "count": ["有几个{p}？", "图中有几个{p}？", "图片里有多少个{p}？", "一共有几个{p}？", "请数一数{p}。", "你看到几个{p}？", "数一下图中的{p}。", "图里有多少{p}？",
                  "{p}有几个？", "{p}的数量是多少？", "图中共有多少个{p}？", "这张图里有几个{p}？", "请问有多少个{p}？", "有多少个{p}？", "图中{p}的个数是多少？", "数数有几个{p}。"],
        "place": ["{o}在哪里？", "{o}在图中的什么位置？", "{o}在图片的哪里？", "{o}位于哪里？", "{o}在什么地方？", "图中{o}在哪个位置？", "请说出{o}的位置。", "{o}在哪儿？",
                  "{o}在图片的哪个部分？", "告诉我{o}的位置。", "请问{o}在哪里？", "{o}的位置在哪里？", "{o}处在图中哪里？"],
        "read": ["图中写了什么？", "请读出图中的文字。", "图片上写着什么？", "文字是什么？", "图里的文字是什么？", "上面写了什么？", "图中有什么字？", "写的是什么？", "请读一下文字。",
                 "你看到什么文字？", "图中的字母是什么？", "这张图片写着什么？", "图片里有哪些字符？", "读出图里的字。", "告诉我图中的文字内容。", "牌子上写着什么？", "图片中的文字是什么？",
                 "这上面写的什么？", "请问图里写了什么？", "图中的文字内容是什么？", "识别图中的文字。", "图上有什么字母？", "请读出图片里的内容。", "图片上的字是什么？"],
        "what": ["图中有什么？", "请描述这张图片。", "你看到了什么？", "这是什么？", "图片里有什么？", "描述一下图片。", "图里是什么？", "请说说图中的内容。", "这张图片里有什么？",
                 "图片展示了什么？", "请问图中是什么？", "描述这幅图。", "你能看到什么？"],
    },
}
MORE = {  # further phrasings for training; none of those held out is among them
    "en": {
        "shape": ["shape", "the shape?", "kind of shape?", "Can you name this shape?", "Do you know which shape it is?", "Could you say what shape this is?", "Which shape would you call it?", "What would you call this shape?", "Tell me which shape that is.", "Is this a triangle, a circle or a square?", "circle, square or triangle?",
                  "What's the shape?", "What is drawn in the picture, which shape?", "Say the shape.", "Look at the image: what shape is there?", "Which shape does it have?"],
        "shape_of_colour": ["Which shape has the colour {c}?", "Of what shape is the {c} figure?", "What kind of figure is the {c} one?", "the {c} shape?", "Which kind of shape has the color {c}?", "Tell me which shape is {c}.", "What sort of shape is the {c} thing?",
                            "The {c} thing: what shape is it?", "Say the shape of the {c} thing.", "What is {c} in the picture?", "What {c} shape is there?"],
        "colour": ["{o} color?", "the {o}: which color?", "Can you tell me the color of the {o}?", "Could you say which colour the {o} has?", "Do you know the color of the {o}?", "In what color is the {o} shown?",
                   "What's the colour of the {o}?", "What's the color of the {o}?", "Say the color of the {o}.", "the color of the {o}", "Which colour has the {o}?",
                   "Look at the {o}. What color is it?", "What color do you see on the {o}?", "What color is this {o}?"],
        "colour_any": ["What colour do you see?", "Say the color.", "What's the color?", "What color?"],
        "count": ["Give the count of {p}.", "Give me the number of {p} here.", "Can you tell how many {p} there are?", "Could you count all {p}?", "{p}: how many?", "Do you know how many {p} there are?", "The number of {p} that appear?",
                  "How many {p} can be seen?", "What is the count of {p}?", "Say how many {p} there are.", "Number of {p}?", "How many {p} are in this image?", "How many {p} are visible?",
                  "Tell me the number of {p}.", "Count {p}."],
        "place": ["Can you tell me where the {o} is?", "{o} position?", "Say in which part the {o} is.", "In which place is the {o} drawn?", "Give the position of the {o}.", "Do you know where the {o} is?",
                  "Where's the {o}?", "Say where the {o} is.", "The {o} is in which part of the image?", "What is the location of the {o}?", "In which corner or side is the {o}?",
                  "Where does the {o} lie?", "The position of the {o}?", "Whereabouts is the {o}?"],
        "read": ["Please say what is written here.", "Tell me what it says.", "Can you tell me what is written?", "What code do you see?", "Which code is written here?", "Can you read the text?", "Please read it to me.", "What are the letters?", "What is there to read?", "I want to know what is written.", "Type the text.",
                 "What's written here?", "What does the image say?", "What is written?", "Text?", "Say the letters.", "What does this say?", "What is the word?", "Which text do you see?",
                 "What do you see written in the image?", "Read this.", "Read it.", "Read the word.", "Read the characters."],
        "what": ["Tell me about the picture.", "Describe it.", "Can you describe the picture?", "Please say what you see in the image.", "What is it?", "What do we see here?", "What is there?",
                 "What's this?", "What's in the image?", "Say what you see.", "What does the picture contain?", "Look at the picture. What is there?"],
    },
    "zh": {
        "shape": ["形状？", "图形是什么？", "你知道这是什么形状吗？", "能说出这个形状吗？", "这属于什么形状？", "请说这是什么形状。", "是圆形、三角形还是正方形？",
                  "形状是什么？", "图片里画的是什么？是什么形状？", "这是啥形状？", "什么形状？", "看图说出形状。", "图中物体的形状是什么？"],
        "shape_of_colour": ["{c}的是哪种形状？", "哪种形状是{c}的？", "{c}那个图形是什么形状？", "请问{c}的是什么图形？", "{c}的那一个是什么图形？", "说说{c}的是什么形状。",
                            "{c}的是啥形状？", "图中{c}的是什么？", "{c}的物体是什么形状的？"],
        "colour": ["你知道{o}的颜色吗？", "能告诉我{o}是什么颜色吗？", "说说{o}是什么颜色。", "请问{o}的颜色是哪一种？",
                   "{o}是啥颜色？", "图中那个{o}是什么颜色的？", "这里的{o}是什么颜色？", "看图，{o}是什么颜色？", "{o}颜色是什么？", "{o}的颜色？", "那个{o}什么颜色？", "{o}用的是什么颜色？"],
        "colour_any": ["什么颜色？", "这是啥颜色？", "图片里有什么颜色？", "看到的是什么颜色？"],
        "count": ["请问有几个{p}？", "能数出几个{p}？", "告诉我有多少{p}。", "{p}一共多少个？", "请说出{p}的数量。", "你知道有几个{p}吗？",
                  "图片中有几个{p}？", "里面有几个{p}？", "数一数有多少个{p}。", "图上有几个{p}？", "总共有几个{p}？", "能看到几个{p}？", "几个{p}？"],
        "place": ["能告诉我{o}在哪里吗？", "你知道{o}在哪里吗？", "说说{o}的位置。", "请问{o}的位置是哪里？", "{o}处于什么位置？",
                  "{o}在图的哪边？", "{o}在哪一边？", "{o}在什么位置？", "{o}在图上的哪里？", "{o}的位置？", "图里的{o}在哪里？", "{o}放在哪里？"],
        "read": ["读出图里的内容。", "请读一读图片上的内容。", "请把文字读出来。", "能读出上面的字吗？", "你能读出图里的文字吗？", "告诉我上面写了什么。", "请说出图中写的字。", "文字写的是什么？", "图上的字是什么？",
                 "图片里写的是什么？", "图上写着什么？", "写了什么字？", "这是什么字？", "读一读图中的字。", "里面的文字是什么？", "读出文字。", "这里写着什么？", "看图读字。"],
        "what": ["这幅图里有什么？", "这幅画里有什么？", "请描述你看到的。", "你看见了什么？", "能看到什么东西？", "请描述一下这张图。", "说一说图里有什么。", "图中都有什么？", "描述一下这幅画。", "请告诉我图中有什么。", "你在图中看到什么？",
                 "图片中有什么？", "画面里有什么？", "图上有什么？", "说说你看到了什么。", "这张图是什么？", "图片里画了什么？"],
    },
}
FRAME = {  # what may stand around a question in training
    "en": [("Please: ", ""), ("Hello. ", ""), ("Look at the picture. ", ""), ("In this image, ", ""), ("Question: ", ""), ("", " Please."),
           ("", " Thank you."), ("Now tell me: ", ""), ("", " Answer in one word."), ("In the picture, ", ""), ("Tell me, ", "")],
    "zh": [("请看图。", ""), ("你好，", ""), ("请回答：", ""), ("在这张图里，", ""), ("问题：", ""), ("我想知道，", ""), ("", "谢谢。"), ("", "请回答。"), ("看这张图，", "")],
}
ANY_OBJECT = {"en": ["shape", "object", "figure", "form"], "zh": ["图形", "形状", "物体", "东西"]}
ANY_PLURAL = {"en": ["shapes", "objects", "figures", "things", "geometric shapes"], "zh": ["图形", "形状", "物体", "东西"]}
MORE_OBJECT = {"en": ["thing", "item", "geometric shape", "drawing"], "zh": ["这个图形", "那个物体"]}  # in training only, as the two below
MORE_PLURAL = {"en": ["items", "figures in total", "drawn shapes"], "zh": ["图案", "几何图形"]}
MORE_TEXT_NAME = {"en": ["string", "written text", "inscription", "printed text"], "zh": ["字符", "文字内容", "字符串"]}
COMPOSED = 0.55
TEXT_NAME = {"en": ["text", "writing", "word", "lettering"], "zh": ["文字", "字", "字母", "文本"]}


def phrasings(lang, kind, unseen=False):
    every = ASK[lang][kind]
    cut = len(every) - max(1, len(every) // 5)
    return every[cut:] if unseen else every[:cut] + MORE[lang][kind]


@functools.cache
def held_out(lang):
    """The essence of every phrasing that training must not meet."""
    return frozenset(phrases.essence(q) for kind in ASK[lang] for q in phrasings(lang, kind, True))


def question_of(rng, lang, kind, unseen):
    """A phrasing with its slots open."""
    if kind == "colours" or not unseen and rng.random() < COMPOSED:
        return phrases.compose(rng, lang, kind, held_out(lang))
    options = phrasings(lang, kind, unseen)
    return options[int(rng.integers(len(options)))]


def article(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def count_phrase(lang, n, colour, shape):
    if lang == "zh":
        return f"{NUMBER_WORDS['zh'][n] if n != 2 else '两'}个{COLOUR['zh'][colour]}的{SHAPE['zh'][shape]}"
    return article(f"{colour} {shape}") if n == 1 else f"{NUMBER_WORDS['en'][n]} {colour} {shape}s"


def name_of(rng, lang, shape, colour=None):
    """A way to say 'circle' or 'red circle' inside a question."""
    s = SHAPE[lang][shape]
    if rng.random() < 0.25:
        also = {"en": {}, "zh": SHAPE_ALSO["zh"]}[lang].get(shape)
        s = str(rng.choice(also)) if also else s
    if colour is None:
        return s
    return f"{colour} {s}" if lang == "en" else f"{COLOUR['zh'][colour]}{'的' if rng.random() < 0.5 else ''}{s}"


def place_of(thing):
    """(row, column) of the nine fields, or None too near to a border between two."""
    x, y = thing["cx"], thing["cy"]
    if min(abs(x - 1 / 3), abs(x - 2 / 3), abs(y - 1 / 3), abs(y - 2 / 3)) < 0.045:
        return None
    return int(y * 3), int(x * 3)


def ask(rng, scene, lang, unseen=False):
    """[(kind, question, answer, other accepted answers)], one or more a kind that fits, in random phrasings."""
    out = []

    def say(kind, template, answer, accept=(), **slots):
        q = question_of(rng, lang, template, unseen).format(**slots)
        if not unseen:  # people greet, and they drop and change punctuation
            if rng.random() < 0.2:
                before, after = FRAME[lang][int(rng.integers(len(FRAME[lang])))]
                q = before + (q[0].lower() + q[1:] if before.endswith((": ", ", ")) and lang == "en" else q) + after
            u = rng.random()
            if u < 0.10 and q[-1] in "?.？。":
                q = q[:-1]
            elif u < 0.15 and lang == "en":
                q = q[0].lower() + q[1:]
            elif u < 0.18 and lang == "zh":
                q = q.replace("？", "?")
        out.append((kind, q, answer, list(accept)))

    shapes, text = scene["shapes"], scene["text"]
    either = lambda usual, more: str(rng.choice(more[lang] if not unseen and rng.random() < 0.2 else usual[lang]))
    any_object, any_plural = either(ANY_OBJECT, MORE_OBJECT), either(ANY_PLURAL, MORE_PLURAL)
    names, colours = [s["shape"] for s in shapes], [s["colour"] for s in shapes]
    n = len(shapes)
    counted = lambda k: [NUMBER_WORDS[lang][k]] + ([f"{k}个", NUMBER_WORDS["zh"][k] + "个"] + (["两", "两个"] if k == 2 else []) if lang == "zh" else [])
    if shapes:
        if len(set(names)) == 1:
            say("shape", "shape", SHAPE[lang][names[0]], SHAPE_ALSO[lang][names[0]])
        if len(set(colours)) == 1:
            c = COLOUR[lang][colours[0]]
            target = name_of(rng, lang, names[0]) if len(set(names)) == 1 and rng.random() < 0.6 else any_object
            if n > 1 and lang == "en":
                target = any_plural if target == any_object else target + "s"
                if unseen or rng.random() < 0.4:
                    q = str(rng.choice(["What colour are the {o}?", "What color are the {o}?", "Which colour do the {o} have?"])) if not unseen else "What is the color of the {o}?"
                    out.append(("colour", q.format(o=target), c, []))
                else:
                    say("colour", "colours", c, o=target)
            elif rng.random() < 0.25 and not text:
                say("colour", "colour_any", c)
            else:
                say("colour", "colour", c, o=target)
        for i in rng.permutation(n)[:2]:  # one thing among several
            s = shapes[i]
            if len(set(names)) > 1 and len({c for m, c in zip(names, colours) if m == s["shape"]}) == 1 and names.count(s["shape"]) == 1:
                say("colour", "colour", COLOUR[lang][s["colour"]], o=name_of(rng, lang, s["shape"]))
            if len(set(colours)) > 1 and len({m for m, c in zip(names, colours) if c == s["colour"]}) == 1:
                say("shape", "shape_of_colour", SHAPE[lang][s["shape"]], SHAPE_ALSO[lang][s["shape"]], c=COLOUR[lang][s["colour"]])
            if place_of(s):
                r, k = place_of(s)
                accept = ["center", "middle"] if PLACE["en"][r][k] == "centre" else []
                if lang == "zh":
                    accept = {"左上角": ["左上", "左上方"], "上方": ["上边", "上面", "顶部"], "右上角": ["右上", "右上方"], "左边": ["左侧", "左方"], "中间": ["中央", "中心"],
                              "右边": ["右侧", "右方"], "左下角": ["左下", "左下方"], "下方": ["下边", "下面", "底部"], "右下角": ["右下", "右下方"]}[PLACE[lang][r][k]]
                if n == 1:
                    target = any_object if rng.random() < 0.35 else name_of(rng, lang, s["shape"], s["colour"] if rng.random() < 0.3 else None)
                elif names.count(s["shape"]) == 1:
                    target = name_of(rng, lang, s["shape"])
                elif list(zip(names, colours)).count((s["shape"], s["colour"])) == 1:
                    target = name_of(rng, lang, s["shape"], s["colour"])
                else:
                    continue
                say("place", "place", PLACE[lang][r][k], accept, o=target)
        plural = lambda w: w + "s" if lang == "en" else w
        u = rng.random()
        if u < 0.45:
            target = any_plural if len(set(names)) > 1 or rng.random() < 0.4 else plural(name_of(rng, lang, names[0]))
            say("count", "count", str(n), counted(n), p=target)
        if len(set(names)) > 1 or (n > 1 and rng.random() < 0.5):
            s = str(rng.choice(names)) if rng.random() < 0.95 or unseen else str(rng.choice(["circle", "square", "triangle"]))
            k = names.count(s)
            say("count", "count", str(k), counted(k), p=plural(name_of(rng, lang, s)))
        if len(set(colours)) > 1 and rng.random() < 0.6:
            c = str(rng.choice(colours))
            k = colours.count(c)
            target = f"{c} {any_plural}" if lang == "en" else f"{COLOUR['zh'][c]}的{any_plural}"
            say("count", "count", str(k), counted(k), p=target)
            s = names[colours.index(c)]
            k = list(zip(names, colours)).count((s, c))
            say("count", "count", str(k), counted(k), p=plural(name_of(rng, lang, s, c)))
    if text:
        say("read", "read", text["text"])
        if text["colour"] and rng.random() < 0.7:
            say("colour", "colour", COLOUR[lang][text["colour"]], o=either(TEXT_NAME, MORE_TEXT_NAME))
        if place_of(text) and rng.random() < 0.5:
            r, k = place_of(text)
            say("place", "place", PLACE[lang][r][k], ["center", "middle"] if (r, k) == (1, 1) and lang == "en" else [], o=either(TEXT_NAME, MORE_TEXT_NAME))
    every = list(zip(names, colours))
    kinds = sorted(set(every), key=lambda kc: (list(SHAPE["en"]).index(kc[0]), list(COLOUR["en"]).index(kc[1])))
    parts = [count_phrase(lang, every.count(kc), kc[1], kc[0]) for kc in kinds]
    if text:
        parts.append(("the text " if lang == "en" else "文字") + text["text"])
    if len(parts) <= 2:
        say("what", "what", (" and " if lang == "en" else "和").join(parts), [text["text"]] if text and not shapes else [])
    else:
        say("what", "what", "several shapes" if lang == "en" else "几个图形")
    return out
