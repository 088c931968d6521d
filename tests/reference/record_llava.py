"""Records tests/golden/parity/{llava,internvl_v1_0}*: python record_llava.py CHECKOUT [--seeds N]

Comes in: a checkout of haotian-liu/LLaVA, for the cases of llavas.py, or internvl_chat_llava of one of OpenGVLab/InternVL,
which is a fork of it, for those of internvl_v1_0.py. Goes out: a golden a case. `--seeds N` as in record_parity.py.
"""

import argparse
import dataclasses
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

import cases
import formula
import internvl_v1_0
import llavas
from golden import Golden, sha256
from record_parity import GOLDEN, N_STEPS, PICTURES, conversations, record_trap, with_next


@contextmanager
def loaded(case: llavas.Case):
    with tempfile.TemporaryDirectory() as folder:
        yield case.oracle( case.seed, Path(folder), GOLDEN / "tokenizer.model")


def listed(tensors: dict) -> list:
    return [
        {"name": name, "shape": list(values.shape), "fnv1a64": f"{formula.fnv1a64(values.tobytes()):016x}"}
        for name, values in tensors.items()
    ]


def record_case(case: llavas.Case):
    golden = Golden(GOLDEN, case.name)
    with loaded(case) as model:
        rgb = formula.picture(**cases.PICTURE)
        pixels = model.pixels(rgb)
        golden.facts |= {
            "about": case.about,
            "seed": case.seed,
            "files": case.files,
            "tensors": listed(model.tensors),
            "tower": {"files": case.tower_files, "tensors": listed(model.tower_tensors)},
            "transformers_names": case.transformers_names(),
            "weights": "f32",
            "picture": cases.PICTURE | {"pixels_sha256": sha256(pixels.numpy())},
            "pictures": [
                {"name": n, "width": w, "height": h, "pixels_sha256": sha256(model.pixels(formula.picture(n, w, h)).numpy())}
                for n, w, h in PICTURES
                if 1 not in (w, h)  # padded to 97 x 97 or left at 1 x 1, the processor guesses wrong where channels are
            ],
            "conversations": [record_conversation(golden, model, *c) for c in conversations(model, case, pixels)],
            "traps": [record_trap(golden, model, t, rgb, pixels) for t in llavas.TRAPS + internvl_v1_0.TRAPS if t.case == case.name],
        }
    golden.write()
    for c in golden.facts["conversations"]:
        print(f"{case.name}/{c['name']}: least margin {c['least_margin']:.4f}, {len(set(c['greedy']))} different tokens")
    for t in golden.facts["traps"]:
        print(f"{case.name}/{t['name']}: {t['distance']:.3g} at {t['node']['name']}")


def record_conversation(golden: Golden, model: llavas.Oracle, name: str, turns, pixels) -> dict:
    *history, (question, _) = turns
    prompt = model.prompt(question, history, n_pictures=0 if pixels is None else 1)
    ids = model.ids(prompt)
    greedy, margins = model.greedy(ids, pixels, N_STEPS)
    assert len(greedy) == N_STEPS, "the seed's answer ends early"
    nodes = with_next(model.nodes(ids, pixels))
    if name == "turns":
        nodes = {"next": nodes["next"]}
    return {
        "name": name,
        "turns": [{"question": q, "answer": a} for q, a in turns],
        "prompt": prompt,
        "ids": model.shown(ids),
        "greedy": greedy,
        "answer": model.answer(greedy),
        "least_margin": min(margins),
        "nodes": [golden.node(node, values) for node, values in nodes.items()],
    }


def try_seeds(case: llavas.Case, count: int):
    for n in range(count):
        case = dataclasses.replace(case, seed=f"{case.name}-{n}")
        with loaded(case) as model:
            report = []
            for name, turns, pixels in conversations(model, case, model.pixels(formula.picture(**cases.PICTURE))):
                *history, (question, _) = turns
                ids = model.ids(model.prompt(question, history, n_pictures=0 if pixels is None else 1))
                greedy, margins = model.greedy(ids, pixels, N_STEPS)
                report.append(f"{name} {len(greedy)} steps, margin {min(margins):.4f}, {len(set(greedy))} different")
        print(f"{case.seed}: " + "; ".join(report), flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("checkout", type=Path)
    arguments.add_argument("--seeds", type=int, default=0)
    arguments = arguments.parse_args()
    warnings.simplefilter("ignore")
    llavas.use_checkout(arguments.checkout)
    is_fork = (arguments.checkout / "llava/model/multimodal_encoder/intern_vit_6b").exists()
    for case in internvl_v1_0.CASES if is_fork else llavas.CASES:
        if arguments.seeds:
            try_seeds(case, arguments.seeds)
        else:
            record_case(case)


if __name__ == "__main__":
    main()
