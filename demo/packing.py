"""Several questions on one picture in one sequence, each of which sees the picture and itself alone."""
import numpy as np

import questions

LENGTH = 96  # tokens a packed sequence: the head with the picture, then questions until the next does not fit
WEIGHT = {"read": 3.0, "count": 3.0, "place": 2.5, "shape": 1.6, "colour": 1.0, "what": 0.8}


def choose(rng, scene):
    """Questions on one picture in a random order that prefers the hard kinds; [(kind, lang, question, answer)]."""
    asked = []
    for lang in ("en", "zh"):
        asked += [(k, lang, q, a) for k, q, a, _ in questions.ask(rng, scene, lang)]
    keys = [rng.random() ** (1 / WEIGHT[a[0]]) for a in asked]
    return [asked[i] for i in np.argsort(keys)[::-1]]


def pack(vocab, asked, length=LENGTH):
    """One sequence: ids, positions, segment numbers (0 the head, seen by all; -1 padding), targets (-100 where none)."""
    head, _ = vocab.head()
    ids, pos, seg, target = list(head), list(range(len(head))), [0] * len(head), [-100] * len(head)
    used, seen = [], set()
    for item in asked:
        q, a = vocab.question(item[2]), vocab.answer(item[3])
        if item[2] in seen or len(ids) + len(q) + len(a) - 1 > length:
            continue
        seen.add(item[2])
        used.append(item)
        row = q + a[:-1]
        ids += row
        pos += range(len(head), len(head) + len(row))
        seg += [len(used)] * len(row)
        target += [-100] * (len(q) - 1) + a
    pad = length - len(ids)
    return ids + [0] * pad, pos + [0] * pad, seg + [-1] * pad, target + [-100] * pad, used
