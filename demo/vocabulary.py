"""The SentencePiece vocabulary, and prompts as token ids.

BPE with byte fallback over the demo's questions and answers. No piece joins a capital letter or a digit with anything,
so what is read off a picture is spelt letter by letter; no piece but ':' and '▁:' holds a colon, so the tokens of the
prompt's last segment ":" begin those of ": answer".
"""
import io
import os
import re

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

N_PIECES = 560
ADDED = ["<human>", "<bot>", "<img>", "</img>", "<vid>", "</vid>", "<box>", "</box>", "<ref>", "</ref>", "<IMG_CONTEXT>",
         "<quad>", "</quad>"]
BOS, EOS = 1, 2
LONGER = "请问这个那张图片里面有几形状颜色在哪写了字文本内容告诉我数一共多少看到读出吗呢是不红绿蓝黄黑白圆正方三角左右上下中间边心央侧零两四五"


def corpus(seed=11, n=30000):
    import pictures
    import questions

    rng = np.random.default_rng(seed)
    lines = []
    for i in range(n):
        lang = "en" if i % 2 else "zh"
        kind = list(questions.ASK[lang])[int(rng.integers(len(questions.ASK[lang])))]
        q = str(rng.choice(questions.phrasings(lang, kind)))
        shape, colour = str(rng.choice(pictures.SHAPES)), str(rng.choice(pictures.COLOURS))
        o = questions.name_of(rng, lang, shape, colour if rng.random() < 0.3 else None)
        if rng.random() < 0.2:
            o = str(rng.choice(questions.ANY_OBJECT[lang] + questions.ANY_PLURAL[lang] + questions.TEXT_NAME[lang]))
        q = q.format(c=questions.COLOUR[lang][colour], o=o, p=o + ("s" if lang == "en" else ""))
        place = questions.PLACE[lang][int(rng.integers(3))][int(rng.integers(3))]
        answers = {"place": place, "what": questions.count_phrase(lang, int(rng.integers(1, 6)), colour, shape),
                   "colour": questions.COLOUR[lang][colour], "colour_any": questions.COLOUR[lang][colour]}
        lines.append(q)
        if rng.random() < 0.05:
            lines.append(str(rng.choice([" several shapes", " 几个图形", " the text", " 和", " and"])))
        lines.append(" " + answers.get(kind, questions.SHAPE[lang][shape]))
    return lines


def train(path, seed=11):
    out = io.BytesIO()
    printable = "".join(chr(c) for c in range(33, 127))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus(seed)), model_writer=out, model_type="bpe", vocab_size=800, byte_fallback=True, add_dummy_prefix=True,
        remove_extra_whitespaces=False, normalization_rule_name="identity", unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
        character_coverage=1.0, required_chars=printable + "？。、，：“”" + LONGER, split_digits=True, num_threads=1,
        hard_vocab_limit=False, minloglevel=2, max_sentencepiece_length=8)
    proto = sentencepiece_model_pb2.ModelProto.FromString(out.getvalue())
    kept = [p for p in proto.pieces if p.type != 1 or len(p.piece) == 1 or p.piece == "▁:" or not re.search(r"[A-Z0-9:：]", p.piece)]
    merges = [p.piece for p in kept if p.type == 1 and len(p.piece) > 1]
    if "▁:" not in merges:  # the lowest of merges, so that it comes after all others
        kept.insert(next(i for i, p in enumerate(kept) if p.type == 1), sentencepiece_model_pb2.ModelProto.SentencePiece(piece="▁:", score=0.5, type=1))
        merges.insert(0, "▁:")
    too_many = len(kept) - N_PIECES
    if too_many < 0:
        raise SystemExit(f"only {len(kept)} pieces: a larger vocab_size is needed")
    drop = set(merges[len(merges) - too_many:]) - {"▁:"}
    kept = [p for p in kept if p.piece not in drop or p.type != 1]
    score = 0
    final = []
    for p in kept:
        q = sentencepiece_model_pb2.ModelProto.SentencePiece(piece=p.piece, type=p.type, score=0.0 if p.type != 1 else -float(score))
        score += p.type == 1
        final.append(q)
    del proto.pieces[:]
    proto.pieces.extend(final)
    proto.trainer_spec.vocab_size = len(final)
    with open(path, "wb") as f:
        f.write(proto.SerializeToString())


class Vocabulary:
    def __init__(self, path):
        self.sp = sentencepiece.SentencePieceProcessor(model_file=path)
        self.n_pieces = self.sp.get_piece_size()
        self.added = {t: self.n_pieces + i for i, t in enumerate(ADDED)}
        self.n_vocab = self.n_pieces + len(ADDED)
        assert self.encode(": A7") [:len(self.encode(":"))] == self.encode(":")

    def encode(self, text):
        """A segment between added tokens, as the legacy slow tokenizer encodes it: with the dummy prefix."""
        return self.sp.encode(text)

    def decode(self, ids):
        return self.sp.decode([i for i in ids if 2 < i < self.n_pieces]).strip()

    def head(self, n_image_tokens=16):
        """The prompt up to and with </img>, and where its image slots begin."""
        a = self.added
        before = [BOS] + self.encode(" ") + [a["<human>"]] + self.encode(": ") + [a["<img>"]]
        return before + [a["<IMG_CONTEXT>"]] * n_image_tokens + [a["</img>"]], len(before)

    def question(self, q):
        return self.encode("\n" + q + " ") + [self.added["<bot>"]] + self.encode(":")

    def answer(self, text):
        whole, colon = self.encode(": " + text), self.encode(":")
        assert whole[: len(colon)] == colon, text
        return whole[len(colon):] + [EOS]


if __name__ == "__main__":
    import sys

    train(sys.argv[1])
    v = Vocabulary(sys.argv[1])
    print(v.n_pieces, v.n_vocab, v.head())
    for q in ["What colour is the circle?", "How many blue triangles do you see?", "图中写了什么？", "请问一共有几个红色的正方形？"]:
        print(len(v.question(q)), [v.sp.id_to_piece(i) if i < v.n_pieces else ADDED[i - v.n_pieces] for i in v.question(q)])
    for a in ["A7KQ", "red", "红色", "3", "two blue circles", "the text A7", "top left", "左上角"]:
        ids = v.answer(a)
        print(a, [v.sp.id_to_piece(i) for i in ids], v.decode(ids) == a)
