"""Records tests/golden/parity/tower_*: python record_towers.py INTERNVL_CHECKOUT

Comes in: a checkout of OpenGVLab/InternVL. Goes out: a golden a case of towers.py.
"""

import sys
import warnings
from pathlib import Path

import numpy as np

import cases
import formula
import oracle
import towers
from golden import Golden, sha256
from record_parity import GOLDEN, N_TRAP_SAMPLES, PICTURES


def record(case: towers.Case):
    golden, tower = Golden(GOLDEN, case.name), towers.Tower(case)
    rgb = formula.picture(**cases.PICTURE)
    pixels = tower.pixels(rgb)
    right = tower.nodes(pixels) | {"pixels": pixels[0].numpy()}
    golden.facts |= {
        "about": case.about,
        "seed": case.name,
        "files": case.files,
        "tensors": [
            {"name": name, "shape": list(values.shape), "fnv1a64": f"{formula.fnv1a64(values.tobytes()):016x}"}
            for name, values in tower.tensors.items()
        ],
        "weights": "f32",
        "picture": cases.PICTURE | {"pixels_sha256": sha256(right["pixels"])},
        "pictures": [
            {"name": n, "width": w, "height": h, "pixels_sha256": sha256(tower.pixels(formula.picture(n, w, h)).numpy())}
            for n, w, h in PICTURES
        ],
        "nodes": [golden.node(name, values) for name, values in right.items() if name != "pixels"],
        "traps": [record_trap(golden, tower, trap, rgb, right) for trap in towers.TRAPS if trap.case == case.name],
    }
    golden.write()
    for trap in golden.facts["traps"]:
        print(f"{case.name}/{trap['name']}: {trap['distance']:.3g} at {trap['node']['name']}")


def record_trap(golden: Golden, tower: towers.Tower, trap: towers.Trap, rgb, right: dict) -> dict:
    if trap.node == "pixels":
        wrong = {"pixels": trap.plant(tower, rgb)}
    else:
        with trap.plant(tower):
            wrong = tower.nodes(tower.pixels(rgb))
        different = (name for name in wrong if right[name].shape != wrong[name].shape or (right[name] != wrong[name]).any())
        first = next(different)
        assert first == trap.node, f"{trap.name} shows first at {first}"
    right, wrong = right[trap.node], wrong[trap.node]
    entry = golden.node(trap.node, wrong, N_TRAP_SAMPLES)
    at = formula.sample_positions(trap.node, right.size, N_TRAP_SAMPLES)
    gap = np.abs(right.reshape(-1)[at] - wrong.reshape(-1)[at]).max()
    distance = float(gap / np.sqrt(np.mean(right.astype(np.float64) ** 2)))
    return {"name": trap.name, "about": trap.about, "distance": distance, "node": entry}


def main():
    warnings.simplefilter("ignore")
    oracle.use_checkout(Path(sys.argv[1]))
    for case in towers.CASES:
        record(case)


if __name__ == "__main__":
    main()
