"""A copy of a checkpoint that computes the same in f32, with outliers where large models have them.

    python demo/outliers.py --checkpoint demo/checkpoint --out OUT [--share 0.01] [--factor 256] [--seed 1]

A few channels of every norm are scaled up by a power of two, from 64 to 1,024 if none is given, and the columns of the matrices that read
them are scaled down by as much: exact in bf16, so the function is unchanged. What changes is what activations look like
before they are quantized: a block of 32 with one outlier in it has a scale that rounds the other 31 to almost nothing.
"""
import argparse
import os
import shutil

import torch
from safetensors.torch import load_file, save_file

FACTORS = [64, 128, 256, 512, 1024]
READERS = {  # by the end of a norm's name, who reads it
    "norm1": ["attn.qkv"], "norm2": ["mlp.fc1"],
    "input_layernorm": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "post_attention_layernorm": ["mlp.gate_proj", "mlp.up_proj"]}
ALONE = {"mlp1.0": ["mlp1.1"], "language_model.model.norm": ["language_model.lm_head"]}


def readers_of(norm):
    """Names of the matrices that read what `norm` yields; none for the norms of queries and keys."""
    if norm in ALONE:
        return ALONE[norm]
    block, _, last = norm.rpartition(".")
    return [f"{block}.{name}" for name in READERS.get(last, [])]


def with_outliers(weights, share, factors, gen):
    weights = {name: w.clone() for name, w in weights.items()}
    changed = 0
    for name in [n for n in weights if n.endswith(".weight") and weights[n].dim() == 1]:
        norm = name.removesuffix(".weight")
        readers = readers_of(norm)
        n = weights[name].numel()
        if not readers:
            continue
        channels = torch.randperm(n, generator=gen)[: max(1, round(share * n))]
        scale = factors[torch.randint(len(factors), (len(channels),), generator=gen)].to(weights[name].dtype)
        weights[name][channels] *= scale
        if f"{norm}.bias" in weights:
            weights[f"{norm}.bias"][channels] *= scale
        for reader in readers:
            weights[f"{reader}.weight"][:, channels] /= scale
        changed += len(channels)
    return weights, changed


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--checkpoint", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--share", type=float, default=0.01)
    ap.add_argument("--factor", type=int, choices=FACTORS, help="for all channels [default: drawn among them]")
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    factors = torch.tensor([float(f) for f in ([args.factor] if args.factor else FACTORS)])
    shutil.copytree(args.checkpoint, args.out)
    path = os.path.join(args.out, "model.safetensors")
    weights, changed = with_outliers(load_file(path), args.share, factors, torch.Generator().manual_seed(args.seed))
    save_file(weights, path, {"format": "pt"})
    print(f"{changed} channels scaled")


if __name__ == "__main__":
    main()
