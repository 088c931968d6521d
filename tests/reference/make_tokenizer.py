"""Trains the parity cases' SentencePiece models: python make_tokenizer.py ../golden/parity

LLaMA's settings (BPE, byte fallback, identity normaliser, dummy prefix, spaces kept) over a handful of sentences, and Yi's:
no dummy prefix, other names for the control pieces, pieces for chat that always stand for themselves.
The committed files count: another version of sentencepiece may choose other pieces, so they are not made anew.
"""

import io
import sys
from pathlib import Path

import sentencepiece

N_PIECES = 640
SENTENCES = """
What is in the picture? There is a red circle on the left and a blue square on the right.
How many triangles are there? There are three triangles in the picture.
Which colour is the largest shape? The largest shape is green, the smallest one is yellow.
Read the text in the picture. The text in the picture says: OWL 2026.
Where is the circle? It stands above the square, below the title, beside the table.
Please describe this picture in one sentence, then answer the question with a single word or phrase.
The quick brown fox jumps over the lazy dog while seven wizards brew tea at night.
An owl sees in the dark; an owlet learns to see. Is this a small bird?  Yes, it is a bird.
Count from one to ten: one, two, three, four, five, six, seven, eight, nine, ten.
def answer(question):    return question.strip()    # four spaces, as in code
Numbers: 0 1 2 3 4 5 6 7 8 9 10 12 25 50 64 100 128 256 448 512 1024.
It was a bright cold day in spring, and the clocks were striking thirteen.
图里有什么？图里有一个红色的圆形和一个蓝色的正方形。
有几个三角形？有三个三角形。
最大的图形是什么颜色？最大的图形是绿色的。
请读出图中的文字。图中的文字是：猫头鹰。
圆形在哪里？圆形在正方形的上面，在图片的左边。
请用一句话描述这张图片，然后回答问题。
中文和 English 可以在同一句话里。
"""


LLAMA = {"add_dummy_prefix": True}
YI = {
    "add_dummy_prefix": False,
    "bos_piece": "<|startoftext|>",
    "eos_piece": "<|endoftext|>",
    "user_defined_symbols": [
        "<|Human|>", "<|Assistant|>", "<|System|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>", "<img>", "</img>",
    ],
}  # fmt: skip


def main():
    for name, settings in (("tokenizer.model", LLAMA), ("tokenizer_yi.model", YI)):
        path = Path(sys.argv[1]) / name
        if path.exists():
            print(f"{path} is there")
        else:
            path.write_bytes(train(settings))


def train(settings: dict) -> bytes:
    target = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for line in SENTENCES.strip().split("\n") for _ in range(3)),
        model_writer=target,
        vocab_size=N_PIECES,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
        **settings,
    )
    return target.getvalue()


if __name__ == "__main__":
    main()
