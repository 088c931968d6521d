"""Records tests/golden/convert/torch-*.bin: tiny files as torch.save really writes them.

python torch_files.py OUTPUT_DIR
"""

import sys
from collections import OrderedDict
from pathlib import Path

import torch


def tensors():
    """Every way a state dict's tensor can lie in its storage; values count up, so that a wrong place shows."""
    grid = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    shared = torch.arange(12, dtype=torch.float32)
    state = OrderedDict()
    state["plain_bf16"] = grid.to(torch.bfloat16)
    state["plain_f16"] = grid.to(torch.float16)
    state["transposed"] = grid.t()
    state["window"] = grid[1:3, 2:5]
    state["shared_head"] = shared[:4]
    state["shared_tail"] = shared[4:].reshape(2, 4)
    state["parameter"] = torch.nn.Parameter(torch.full((3,), 1.5))
    state["positions"] = torch.arange(5)
    state["scalar"] = torch.tensor(2.5)
    state["every_second"] = grid[:, ::2]
    state["conv"] = torch.arange(36, dtype=torch.float32).reshape(3, 3, 2, 2)
    return state


def main():
    out = Path(sys.argv[1])
    torch.save(tensors(), out / "torch-views.bin")
    torch.save(torch.nn.Linear(2, 1).eval().state_dict(), out / "torch-module.bin")
    torch.save({"a": torch.zeros(2)}, out / "torch-old.bin", _use_new_zipfile_serialization=False)


main()
