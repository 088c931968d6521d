"""Records tests/golden/parity/tower_*: python record_towers.py INTERNVL_CHECKOUT

Comes in: a checkout of OpenGVLab/InternVL. Goes out: a golden a case of towers.py.
"""

import sys
import warnings
from pathlib import Path

import cases
import formula
import oracle
import towers
from golden import Golden, listed, sha256
from record_parity import GOLDEN, PICTURES


def record(case: towers.Case):
    golden, tower = Golden(GOLDEN, case.name), towers.Tower(case)
    rgb = formula.picture(**cases.PICTURE)
    pixels = tower.pixels(rgb)
    right = tower.nodes(pixels) | {"pixels": pixels[0].numpy()}
    golden.facts |= {
        "about": case.about,
        "seed": case.name,
        "files": case.files,
        "tensors": listed(tower.tensors),
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
    return golden.trap(trap.name, trap.about, trap.node, right[trap.node], wrong[trap.node])


def main():
    warnings.simplefilter("ignore")
    oracle.use_checkout(Path(sys.argv[1]))
    for case in towers.CASES:
        record(case)


if __name__ == "__main__":
    main()
