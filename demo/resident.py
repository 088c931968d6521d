"""Training pictures kept in the memory of the device: drawn by other processes while training runs, varied anew at every visit.

A GPU sees thousands of pictures a second, more than processors can pick, pack and copy. So shards carry their questions ready
packed (`shards.py --packs`), go to the device once, and batches are put together there.
"""
import threading
import time

import torch
import torch.nn.functional as F

import labels
import packing
import pictures
import shards

SHIFT, ZOOM = 1.5, 0.03  # pixels, and a share of the picture: less than moves a thing into another field


class Store:
    """Room for `capacity` pictures, 40 KB each, on the device; filled by one thread, read by another."""

    def __init__(self, capacity, packs, device):
        make = lambda *shape, dtype=torch.uint8: torch.empty(capacity, *shape, dtype=dtype, device=device)
        self.images = make(pictures.SIDE, pictures.SIDE, 3)
        self.labels = make(pictures.GRID ** 2, len(labels.LABELS))
        self.packs = make(packs, 4, packing.LENGTH, dtype=torch.int16) if packs else None
        self.capacity, self.n = capacity, 0

    def add(self, path):
        arrays = shards.read_packed(path)
        k = min(len(arrays[0]), self.capacity - self.n)
        for into, new in zip((self.images, self.labels, self.packs), arrays):
            if into is not None:
                into[self.n:self.n + k].copy_(torch.from_numpy(new[:k]))
        if self.images.is_cuda:
            torch.cuda.current_stream().synchronize()  # all of it is there before anybody may pick it
        self.n += k


class Resident:
    """Endless (images, labels, packed sequences) from everything drawn so far; a quarter of each batch are pages, unasked, at its end."""

    def __init__(self, args, device, gen):
        self.folder, self.device, self.gen = args.data, device, gen
        self.pages = args.batch // 4
        self.asked = args.batch - self.pages
        self.stores = [Store(args.room, args.packs, device), Store(args.room // 5, 0, device)]
        self.had = set()
        threading.Thread(target=self.fill, daemon=True).start()

    def fill(self):
        while True:
            new = [(s, p) for s, pages in zip(self.stores, (False, True)) for p in shards.shard_list(self.folder, pages) if p not in self.had]
            for store, path in new:
                if store.n < store.capacity:
                    store.add(path)
                self.had.add(path)
            if not new:
                time.sleep(0.2)

    def __next__(self):
        while min(s.n for s in self.stores) == 0:
            time.sleep(0.1)
        picked = [torch.randint(s.n, (n,), device=self.device, generator=self.gen) for s, n in zip(self.stores, (self.asked, self.pages))]
        images, marks = (torch.cat([getattr(s, name)[i] for s, i in zip(self.stores, picked)]) for name in ("images", "labels"))
        which = torch.randint(self.stores[0].packs.shape[1], (self.asked,), device=self.device, generator=self.gen)
        packed = self.stores[0].packs[picked[0], which].long().unbind(1)
        return vary(images, marks, self.gen), marks, packed


def vary(images, marks, gen):
    """(b, 112, 112, 3) uint8 -> float levels: half of the pictures moved and zoomed a little, text without a colour in any colours."""
    b, device = len(images), images.device
    rand = lambda *shape: torch.rand(*shape, device=device, generator=gen)
    x = images.permute(0, 3, 1, 2).float()
    uncoloured = (marks[..., 1] % 5 == 0).all(1)  # nothing here is red, green, blue or yellow: no answer speaks of colour
    order = torch.where(uncoloured[:, None], rand(b, 3).argsort(1), torch.arange(3, device=device))
    x = x.gather(1, order[:, :, None, None].expand_as(x))
    x = torch.where((uncoloured & (rand(b) < 0.4))[:, None, None, None], 255 - x, x)
    moved = rand(b) < 0.5
    affine = torch.zeros(b, 2, 3, device=device)
    for k in range(2):
        affine[:, k, k] = 1 + moved * (rand(b) * 2 - 1) * ZOOM
        affine[:, k, 2] = moved * (rand(b) * 2 - 1) * SHIFT * 2 / pictures.SIDE
    y = F.grid_sample(x, F.affine_grid(affine, x.shape, align_corners=False), mode="bilinear", padding_mode="border", align_corners=False)
    return torch.where(moved[:, None, None, None], y, x).permute(0, 2, 3, 1)
