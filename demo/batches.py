"""From shards to training batches: augmented pictures, and several questions on one picture packed into one sequence."""
import queue
import threading
import time

import numpy as np
import torch

import questions
import shards

LENGTH = 96  # tokens a packed sequence: the head with the picture, then questions until the next does not fit
WEIGHT = {"read": 3.0, "count": 3.0, "place": 2.5, "shape": 1.6, "colour": 1.0, "what": 0.8}


def augment(images, gen):
    """Light changes of brightness, contrast and colour, and noise on a third; (b, 112, 112, 3) uint8 -> float levels."""
    b = images.shape[0]
    x = images.float()
    gain = 1 + 0.10 * torch.randn(b, 1, 1, 1, generator=gen).clamp(-2, 2) + 0.03 * torch.randn(b, 1, 1, 3, generator=gen)
    x = (x - 128) * gain + 128 + 8 * torch.randn(b, 1, 1, 1, generator=gen)
    x[::3] += torch.randn(x[::3].shape, generator=gen) * (torch.rand(len(x[::3]), 1, 1, 1, generator=gen) * 12)
    return x.clamp(0, 255)


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


def mask_of(seg):
    """(b, n) segment numbers -> (b, 1, n, n): causal, own segment and head only."""
    n = seg.shape[1]
    causal = torch.ones(n, n, dtype=torch.bool).tril()
    own = (seg[:, :, None] == seg[:, None, :]) | (seg[:, None, :] == 0)
    return (own & causal)[:, None]


class Pool:
    """At most `keep` of every `world`-th shard in memory; each gives about as many pictures as it holds, then the next comes in,
    one that was never there if there is one."""

    def __init__(self, folder, keep, pages=False, rank=0, world=1):
        self.folder, self.keep, self.pages, self.rank, self.world = folder, keep, pages, rank, world
        self.paths, self.shards, self.had, self.given = [], [], set(), 0

    def exchange(self, rng):
        if len(self.shards) > 2 and self.given < shards.SHARD:
            return
        there = shards.shard_list(self.folder, self.pages)
        mine = [p for p in there[self.rank::self.world] or there if p not in self.paths]
        mine = [p for p in mine if p not in self.had] or mine
        if mine:
            self.given = 0
            self.paths.append(mine[int(rng.integers(len(mine)))])
            self.had.add(self.paths[-1])
            self.shards.append(shards.read_shard(self.paths[-1]))
            if len(self.shards) > self.keep:
                self.shards.pop(0)
                self.paths.pop(0)

    def pick(self, rng, n):
        """[(shard, row)] of n pictures, in groups of eight from one shard."""
        out = []
        self.given += n
        while len(out) < n:
            shard = self.shards[int(rng.integers(len(self.shards)))]
            out += [(shard, int(r)) for r in rng.choice(shards.SHARD, min(8, n - len(out)), replace=False)]
        return out


def stream(folder, size, seed, vocab=None, pages=0, keep=24, rank=0, world=1):
    """Endless (images, labels, packed sequences or None); `pages` of the `size` pictures come last, from page shards, unasked."""
    rng = np.random.default_rng([seed, 3])
    pools = [(Pool(folder, keep, False, rank, world), size - pages)]
    pools += [(Pool(folder, keep, True, rank, world), pages)] if pages else []
    out = queue.Queue(6)

    def work():
        while True:
            for pool, _ in pools:
                pool.exchange(rng)
                while not pool.shards:  # the first one is still being drawn
                    time.sleep(1)
                    pool.exchange(rng)
            picks = [p for pool, n in pools for p in pool.pick(rng, n)]
            images = torch.from_numpy(np.stack([s[0][r] for s, r in picks]))
            labels = torch.from_numpy(np.stack([s[1][r] for s, r in picks]))
            packed = None
            if vocab:
                rows = [pack(vocab, choose(rng, s[2][r]))[:4] for s, r in picks[: size - pages]]
                packed = [torch.tensor(column) for column in zip(*rows)]
            out.put((images, labels, packed))

    threading.Thread(target=work, daemon=True).start()
    while True:
        yield out.get()
