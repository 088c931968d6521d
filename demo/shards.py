"""Draws training pictures in the background into numbered shards, and reads them back.

    python demo/shards.py --data DIR --first 0 --count 60 [--workers 2]
    python demo/shards.py --data DIR --packs 2 --tokenizer TOKENIZER.model --count 3000 --size 512      # for a GPU

Shard k follows from seed and k alone, so it is the same whenever and by whomever it is drawn.
"""
import argparse
import glob
import json
import multiprocessing
import os

import numpy as np

import labels
import packing
import pictures
import plain
import vocabulary

SHARD = 2048
PAGES = 50000


MIX = [0.14, 0.18, 0.20, 0.48]  # of pictures.KINDS
PLAIN = 0.4  # drawn as other programs draw


def sample(rng, fonts, kind=None):
    """One training picture: (112, 112, 3) uint8, scene, labels."""
    kind = kind or str(rng.choice(pictures.KINDS, p=MIX))
    if kind == "page":
        img, scene = pictures.draw_page(rng, fonts, float(rng.uniform(0.45, 0.6)))
    elif rng.random() < PLAIN:
        img, scene = plain.draw(rng, fonts, kind)
        img = pictures.degrade(rng, img) if rng.random() < 0.3 else img
    else:
        img, scene = pictures.draw(rng, fonts, kind, None if rng.random() < 0.15 else float(rng.uniform(0.4, 0.6)))
        img = pictures.degrade(rng, img)
    return pictures.squash(img), scene, labels.dense_labels(scene)


def shard_path(folder, k):
    return os.path.join(folder, f"shard_{k:05d}.npz")


def write_shard(folder, k, args, fonts):
    """Shards from PAGES on hold pages full of letters and shapes, the others what questions are asked about."""
    if os.path.exists(shard_path(folder, k)):
        return
    rng = np.random.default_rng([args.seed, k])
    drawn = [sample(rng, fonts, "page" if k >= PAGES else None) for _ in range(args.size)]
    arrays = {"images": np.stack([d[0] for d in drawn]), "labels": np.stack([d[2] for d in drawn])}
    if not args.packs:
        arrays["scenes"] = np.frombuffer(json.dumps([d[1] for d in drawn], default=lambda v: v.item()).encode(), np.uint8)
    elif k < PAGES:
        vocab = vocabulary.Vocabulary(args.tokenizer)
        arrays["packs"] = np.array([[packing.pack(vocab, packing.choose(rng, scene))[:4] for _ in range(args.packs)] for _, scene, _ in drawn], np.int16)
    part = shard_path(folder, k) + f".{os.getpid()}.part"
    with open(part, "wb") as f:
        np.savez(f, **arrays)
    os.replace(part, shard_path(folder, k))


def read_shard(path):
    with np.load(path) as z:
        return z["images"], z["labels"], json.loads(z["scenes"].tobytes())


def read_packed(path):
    """(images, labels, packs (n, packs, 4, LENGTH) of ids, positions, segments and targets, or None for pages)"""
    with np.load(path) as z:
        return z["images"], z["labels"], z["packs"] if "packs" in z else None


def shard_list(folder, pages=False):
    every = sorted(glob.glob(os.path.join(folder, "shard_*.npz")))
    return [p for p in every if (int(p[-9:-4]) >= PAGES) == pages]


def _job(args):
    write_shard(*args)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--data", required=True)
    ap.add_argument("--first", type=int, default=0)
    ap.add_argument("--count", type=int, default=60)
    ap.add_argument("--pages", action="store_true", help="draw pages for the tower's first lessons")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--workers", type=int, default=1)
    ap.add_argument("--size", type=int, default=SHARD, help="pictures a shard")
    ap.add_argument("--packs", type=int, default=0, help="store this many sequences of questions a picture instead of its scene")
    ap.add_argument("--tokenizer", help="for --packs")
    args = ap.parse_args()
    os.makedirs(args.data, exist_ok=True)
    train, held = pictures.split_fonts(pictures.scan_fonts())
    print(f"fonts used: {sum(map(len, train.values()))} faces of {sorted(train)}")
    print(f"fonts held out: {sum(map(len, held.values()))} faces of {sorted(held)}", flush=True)
    first = args.first + PAGES * args.pages
    jobs = [(args.data, k, args, train) for k in range(first, first + args.count)]
    if args.workers == 1:
        for j in jobs:
            _job(j)
    else:
        with multiprocessing.Pool(args.workers) as pool:
            for _ in pool.imap(_job, jobs, chunksize=1):
                pass


if __name__ == "__main__":
    main()
