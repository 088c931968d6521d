"""Writes a golden: <case>.json with everything one reads, <case>.f32 with the samples, little-endian, end to end.

Comes in: nodes as arrays whose last axis is ggml's innermost. Goes out: two small files (README.md has the format).
"""

import hashlib
import json
from pathlib import Path

import numpy as np

import formula


N_TRAP_SAMPLES = 128


class Golden:
    def __init__(self, folder: Path, name: str):
        self.path, self.samples, self.facts = folder / name, [], {"case": name}

    def node(self, name: str, values: np.ndarray, count: int = 512) -> dict:
        """Samples one node; what comes back goes into `facts` wherever the caller wants it."""
        flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
        assert np.isfinite(flat).all(), name
        positions = formula.sample_positions(name, flat.size, count)
        entry = {
            "name": name,
            "ne": list(values.shape[::-1]),
            "rms": float(np.sqrt(np.mean(flat.astype(np.float64) ** 2))),
            "projection": formula.projection(name, flat),
            "first_sample": sum(map(len, self.samples)),
            "n_samples": len(positions),
        }
        self.samples.append(flat[positions])
        return entry

    def trap(self, name: str, about: str, node: str, right: np.ndarray, wrong: np.ndarray) -> dict:
        """Samples the wrong variant of a node, with its distance from the right one in the tests' measure."""
        entry = self.node(node, wrong, N_TRAP_SAMPLES)
        at = formula.sample_positions(node, right.size, N_TRAP_SAMPLES)
        gap = np.abs(right.reshape(-1)[at] - wrong.reshape(-1)[at]).max()
        distance = float(gap / np.sqrt(np.mean(right.astype(np.float64) ** 2)))
        return {"name": name, "about": about, "distance": distance, "node": entry}

    def write(self):
        self.path.with_suffix(".json").write_text(dumps(self.facts) + "\n", encoding="utf-8")
        if self.samples:
            np.concatenate(self.samples).astype("<f4").tofile(self.path.with_suffix(".f32"))


def listed(tensors: dict) -> list:
    """A checkpoint's tensors as goldens name them."""
    return [
        {"name": name, "shape": list(values.shape), "fnv1a64": f"{formula.fnv1a64(values.tobytes()):016x}"}
        for name, values in tensors.items()
    ]


def dumps(value, indent: str = "") -> str:
    """JSON with one short list or object a line, so that a changed golden reads as a short diff."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (list, dict)) or len(indent) + len(flat) <= 150 or not value:
        return flat
    inner = indent + " "
    if isinstance(value, dict):
        rows = [f"{inner}{json.dumps(key)}: {dumps(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + "\n" + indent + "}"
    if all(isinstance(item, (int, float)) for item in value):
        rows = [inner + json.dumps(value[at : at + 24])[1:-1] for at in range(0, len(value), 24)]
    else:
        rows = [inner + dumps(item, inner) for item in value]
    return "[\n" + ",\n".join(rows) + "\n" + indent + "]"


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
