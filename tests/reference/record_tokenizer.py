#!/usr/bin/env python3
"""Records tests/golden/tokenizer: what sentencepiece and transformers' slow LlamaTokenizer make of text.

    python tests/reference/record_tokenizer.py   # recorded with sentencepiece 0.2.1, transformers 4.37.2

sentencepiece 0.2.2 began to order a score of -0.0 below 0.0. Up to 0.2.1, and so where the models were trained, these two
are a tie.

lines.txt         texts, one a line, escaped as Python does (\\n, \\x00, \\u2581, ...); everything beyond ASCII is itself
<model>.vocab     one piece a line: kind score piece (kinds: SentencePiece's numbers), pieces escaped likewise; the first
                  line has add_dummy_prefix
<model>.ids       ids of each line by SentencePieceProcessor.encode, as base-36 numbers, or a hash of them
prompts.txt       conversations as strings in which special tokens are spelled, escaped likewise
<model>.legacy    ids of each prompt by LlamaTokenizer(legacy=True), `.modern` by legacy=False, with BOS
decoded.txt       ids of a random answer and its text by LlamaTokenizer.decode(skip_special_tokens=True)

The models are trained here, on text made here: `plain` like LLaMA's; `appended` with hundreds of pieces of equal score
behind it, as Chinese-extended vocabularies have; `defined` with user-defined and unused pieces; `bare` without dummy prefix
and without byte pieces.
"""

import io
import random
import tempfile
from pathlib import Path

import sentencepiece
from transformers import AddedToken, LlamaTokenizer
from transformers.convert_slow_tokenizer import import_protobuf

pb = import_protobuf()

OUT = Path(__file__).resolve().parent.parent / "golden" / "tokenizer"
rng = random.Random(20240131)

ENGLISH = """the a of to and in is that it was for on are as with his they at be this have from or one had by word but not
what all were we when your can said there use an each which she do how their if will up other about out many then them these
so some her would make like him into time has look two more write go see number no way could people my than first water been
call who oil its now find long down day did get come made may part picture shows photograph describe colour square circle
triangle question answer question's shouldn't don't""".split()
CHINESE = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间样与关各重新线内数正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已通并提直题党程展五果料象员革位入常文总次品式活设及管特件长求老头基资边流路级少图山统接知较将组见计别她手角期根论运农指几九区强放决西被干做必战先回则任取据处队南给色光门即保治北造百规热领七海口东导器压志世金增争济阶油思术极交受联什认六共权收证改清己美再采转更单风切打白教速花带安场身车例真务具万每目至达走积示议声报斗完类八离华名确才科张信马节话米整空元况今集温传土许步群广石记需段研界拉林律叫且究观越织装影算低持音众书布复容儿须际商非验连断深难近矿千周委素技备半办青省列习响约支般史感劳便团往酸历市克何除消构府称太准精值号率族维划选标写存候毛亲快效斯院查江型眼王按格养易置派层片始却专状育厂京识适属圆包火住调满县局照参红细引听该铁价严"
EMOJI = "😀😂🥲👍🏽👩‍👩‍👧🇨🇳🐱‍👤❤️🔥✨🎉½≠→"
CODE = ["fn main() {\n    println!(\"{}\", x << 3);\n}", "if (a != b && c[0] >= 1) { return null; }", "SELECT * FROM t WHERE id = 42;",
        "x_1 = [i**2 for i in range(10)]", "<div class=\"a\">&nbsp;</div>", "https://example.org/a?b=c&d=%20#e", "\\frac{1}{2}", "0x1F 3.14e-10 1,000,000"]
SPACES = [" ", "  ", "   ", "        ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u3000", "\u2581", "\u2581\u2581", " \u2581"]
CONTROL = ["\x00", "\x01", "\x07", "\x1b[0m", "\x7f", "\u200b", "\ufeff", "\u202e", "\ufffd", "\U0010ffff", "\ue000", "\u0301"]
SPECIAL = ["<s>", "</s>", "<unk>", "<0x0A>", "<img>", "<human>", "<IMG_CONTEXT>", "<pad>"]


def word():
    kind = rng.random()
    if kind < 0.45:
        w = rng.choice(ENGLISH)
        return rng.choice([w, w, w, w.capitalize(), w.upper(), w + rng.choice("s.,!?;:")])
    if kind < 0.75:
        return "".join(rng.choice(CHINESE) for _ in range(rng.randint(1, 6))) + rng.choice(["", "", "，", "。", "？", "！"])
    if kind < 0.82:
        return str(rng.randint(0, 10 ** rng.randint(1, 7)))
    if kind < 0.88:
        return rng.choice(CODE)
    if kind < 0.92:
        return "".join(rng.choice(EMOJI) for _ in range(rng.randint(1, 3)))
    if kind < 0.95:
        return rng.choice(CONTROL)
    if kind < 0.97:
        return rng.choice(["é", "naïve", "Ünïcödé", "кот", "עברית", "日本語", "한국어", "ﬁ", "Å", "\u0061\u030a"])
    return "".join(chr(rng.randint(33, 126)) for _ in range(rng.randint(1, 8)))


def text():
    words = rng.randint(0, 9)
    gap = lambda: rng.choice(SPACES) if rng.random() < 0.2 else " "
    out = rng.choice(["", "", "", " ", "\n"])
    for _ in range(words):
        out += word() + gap()
    return out if rng.random() < 0.3 else out.rstrip(" ")


def lines():
    out = ["", " ", "  ", "\u2581", "a", "\x00", "\r\n", *SPACES, *CONTROL, *SPECIAL, *CODE]
    out += [f"x{s}y" for s in SPACES + CONTROL + SPECIAL]
    out += ["abc cab", "cabc", "abababc", "不的一大", "don'tthe the"]
    out += ["a" * n for n in (2, 3, 5, 50, 501)] + ["ab" * 40, "的" * 30, " " * 40, "\n" * 9]
    while len(out) < 2200:
        out.append(text())
    return out


def train(vocab_size, **options):
    corpus_rng = random.Random(7)
    global rng
    keep, rng = rng, corpus_rng
    corpus = [t.replace("\n", " ").replace("\x00", "") for t in (text() for _ in range(6000))]
    rng = keep
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([t for t in corpus if t.strip()]), model_writer=model, model_type="bpe", vocab_size=vocab_size,
        character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2, **options)
    return pb.ModelProto.FromString(model.getvalue())


def append(model, piece, score, kind=1):
    if piece and all(p.piece != piece for p in model.pieces):
        model.pieces.add(piece=piece, score=score, type=kind)


def models():
    plain = train(1100, byte_fallback=True)
    appended = pb.ModelProto.FromString(plain.SerializeToString())
    # Equal scores, and -0.0 beside 0.0: what tools write that merge two vocabularies.
    for _ in range(1200):
        n = rng.randint(2, 3)
        piece = "".join(rng.choice(CHINESE[:40]) for _ in range(n)) if rng.random() < 0.7 else "".join(rng.choice("abetion") for _ in range(n))
        append(appended, piece, rng.choice([0.0, 0.0, -0.0]))
    # Merges with the "<unk>" that the slow tokenizer puts before a segment, and takes the segment's space along.
    append(appended, ">\u2581", 0.0)
    defined = train(1000, byte_fallback=True, user_defined_symbols=["<sep>", "ab", "abab", "的一", "  ", "😀", "\u2581the", "don't"])
    normal = [i for i, p in enumerate(defined.pieces) if p.type == 1]
    for i in rng.sample(normal, 60):
        defined.pieces[i].type = 5
    # Never formed: user-defined pieces do not merge.
    for piece in ("abc", "cab", "ababab", "的一大", "不的一"):
        append(defined, piece, -0.5)
    bare = train(800, add_dummy_prefix=False)
    return {"plain": plain, "appended": appended, "defined": defined, "bare": bare}


def escaped(t):
    return "".join(c if c.isprintable() and c not in "\\\u2581" else c.encode("unicode_escape").decode() for c in t).replace("\\\u2581", "\\u2581")


def base36(n):
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    out = ""
    while n or not out:
        n, d = divmod(n, 36)
        out = digits[d] + out
    return out


def ids_line(ids):
    return " ".join(map(base36, ids))


def rows(all_ids):
    """Whole ids of the first texts, which have the odd cases, and FNV-1a hashes of the rest, which keeps the files small."""
    for i, ids in enumerate(all_ids):
        if i < 30:
            yield ids_line(ids)
        else:
            fnv = 0x811C9DC5
            for byte in b"".join(id.to_bytes(4, "little") for id in ids):
                fnv = (fnv ^ byte) * 0x01000193 & 0xFFFFFFFF
            yield f"#{fnv:08x}"


ADDED = ["<human>", "<bot>", "<img>", "</img>", "<IMG_CONTEXT>"]


def llama(path, legacy):
    added = {token: AddedToken(token, lstrip=False, rstrip=False, normalized=False, special=True) for token in ADDED}
    tokenizer = LlamaTokenizer(str(path), legacy=legacy)
    tokenizer.add_special_tokens({"additional_special_tokens": list(added.values())})
    return tokenizer


def prompts(all_lines):
    """internvl_zh over one to three turns, and bare runs of text and special tokens in any order."""
    plain = [t for t in all_lines if not any(s in t for s in ["<s>", "</s>", "<unk>", *ADDED])]
    out = []
    for _ in range(250):
        system = rng.choice(["", "", rng.choice(plain)])
        p = system + " "
        for turn in range(rng.randint(1, 3)):
            image = "<img>" + "<IMG_CONTEXT>" * 2 + "</img>\n" if rng.random() < 0.5 else ""
            p += ("</s>" if turn else "") + f"<human>: {image}{rng.choice(plain)} <bot>:"
            if turn < 2 and rng.random() < 0.6:
                p += f" {rng.choice(plain)}"
            else:
                break
        out.append(p)
    for _ in range(150):
        out.append("".join(rng.choice([*ADDED, rng.choice(plain), rng.choice(SPACES)]) for _ in range(rng.randint(1, 7))))
    return out


def main():
    assert sentencepiece.__version__ in ("0.1.99", "0.2.0", "0.2.1"), sentencepiece.__version__
    OUT.mkdir(parents=True, exist_ok=True)
    all_lines = lines()
    all_prompts = prompts(all_lines)
    write = lambda name, rows: (OUT / name).write_text("".join(row + "\n" for row in rows), encoding="utf-8")
    write("lines.txt", map(escaped, all_lines))
    write("prompts.txt", map(escaped, all_prompts))
    for name, model in models().items():
        processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
        pieces = [f"{p.type} {p.score!r} {escaped(p.piece)}" for p in model.pieces]
        write(f"{name}.vocab", [f"add_dummy_prefix {int(model.normalizer_spec.add_dummy_prefix)}", *pieces])
        write(f"{name}.ids", rows(processor.encode(t) for t in all_lines))
        if name == "bare":
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tokenizer.model"
            path.write_bytes(model.SerializeToString())
            for legacy in (True, False):
                tokenizer = llama(path, legacy)
                all_ids = (tokenizer(t)["input_ids"] for t in all_prompts)
                write(f"{name}.{'legacy' if legacy else 'modern'}", rows(all_ids))
            if name == "plain":
                write("decoded.txt", decoded(llama(path, True), all_lines))


def decoded(tokenizer, all_lines):
    """Answers: tokens of text, and ids at random, whose bytes are mostly wrong."""
    n = tokenizer.sp_model.get_piece_size()
    for i in range(300):
        if i % 2:
            ids = [rng.randrange(3, n) if rng.random() < 0.5 else rng.randrange(3, 259) for _ in range(rng.randint(1, 12))]
        else:
            ids = tokenizer(rng.choice(all_lines), add_special_tokens=False)["input_ids"]
        if ids:
            yield ids_line(ids) + "\t" + escaped(tokenizer.decode(ids, skip_special_tokens=True))


if __name__ == "__main__":
    main()
