"""From shards to training batches of augmented pictures with packed questions."""
import queue
import threading
import time

import numpy as np
import torch

import packing
import shards


def augment(images, gen):
    """Light changes of brightness, contrast and colour, and noise on a third; (b, 112, 112, 3) uint8 -> float levels."""
    b = images.shape[0]
    x = images.float()
    randn = lambda *shape: torch.randn(shape, generator=gen, device=x.device)
    gain = 1 + 0.10 * randn(b, 1, 1, 1).clamp(-2, 2) + 0.03 * randn(b, 1, 1, 3)
    x = (x - 128) * gain + 128 + 8 * randn(b, 1, 1, 1)
    x[::3] += randn(*x[::3].shape) * (torch.rand(len(x[::3]), 1, 1, 1, generator=gen, device=x.device) * 12)
    return x.clamp(0, 255)


def mask_of(seg):
    """(b, n) segment numbers -> (b, 1, n, n): causal, own segment and head only."""
    n = seg.shape[1]
    causal = torch.ones(n, n, dtype=torch.bool, device=seg.device).tril()
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
                rows = [packing.pack(vocab, packing.choose(rng, s[2][r]))[:4] for s, r in picks[: size - pages]]
                packed = [torch.tensor(column) for column in zip(*rows)]
            out.put((images, labels, packed))

    threading.Thread(target=work, daemon=True).start()
    while True:
        yield out.get()
