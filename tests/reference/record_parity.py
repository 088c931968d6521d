"""Records tests/golden/parity: python record_parity.py INTERNVL_CHECKOUT [case ...] [--seeds N]

Comes in: a checkout of OpenGVLab/InternVL. Goes out: one golden a case, and the goldens of the position grid and
the pixels. `--seeds N` writes nothing: it tries N seed words a case and prints what greedy decoding does with each.
"""

import argparse
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import cases
import formula
import oracle
import traps
from golden import Golden, listed, sha256
from nodes import with_next

GOLDEN = Path(__file__).resolve().parent.parent / "golden/parity"
N_STEPS = 64
PICTURES = [  # name, width, height: both axes down, up, one each way, untouched, a line, a point
    ("down", 300, 200), ("up", 40, 30), ("wide", 400, 50), ("tall", 50, 333), ("same", 112, 112),
    ("same_width", 112, 64), ("row", 97, 1), ("point", 1, 1), ("large", 1024, 768),
]  # fmt: skip


@contextmanager
def loaded(case: cases.Case, seed: str):
    with tempfile.TemporaryDirectory() as folder:
        case.lay_out(Path(folder), GOLDEN)
        yield oracle.Oracle(seed, Path(folder), case.bf16)


def conversations(model, case, pixels):
    """(name, turns, pixels): turns are (question, answer or None); the second turn of `turns` quotes the first answer."""
    for name in case.conversations:
        if name == "picture":
            yield name, [(cases.QUESTION, None)], pixels
        elif name == "text":
            yield name, [(cases.QUESTION, None)], None
        else:
            first, _ = model.greedy(model.ids(model.prompt(cases.QUESTION)), pixels, N_STEPS)
            yield name, [("<image>\n" + cases.QUESTION, model.answer(first)), (cases.FOLLOW_UP, None)], pixels


def record_case(case: cases.Case):
    golden = Golden(GOLDEN, case.name)
    with loaded(case, case.seed) as model:
        rgb = formula.picture(**cases.PICTURE)
        pixels = model.pixels(rgb)
        golden.facts |= {
            "about": case.about,
            "seed": case.seed,
            "files": case.files(),
            "tensors": listed(model.tensors),
            "tokenizer": case.tokenizer,
            "weights": "bf16" if case.bf16 else "f32",
            "picture": cases.PICTURE | {"pixels_sha256": sha256(pixels.numpy())},
            "conversations": [record_conversation(golden, model, *c) for c in conversations(model, case, pixels)],
            "traps": [record_trap(golden, model, t, rgb, pixels) for t in traps.TRAPS if t.case == case.name],
        }
    golden.write()
    tell(golden)


def tell(golden: Golden):
    case = golden.facts["case"]
    for c in golden.facts["conversations"]:
        print(f"{case}/{c['name']}: least margin {c['least_margin']:.4f}, {len(set(c['greedy']))} different tokens")
    for t in golden.facts["traps"]:
        print(f"{case}/{t['name']}: {t['distance']:.3g} at {t['node']['name']}")


def record_conversation(golden: Golden, model, name: str, turns, pixels) -> dict:
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
        "prompt": model.written(prompt),
        "ids": model.shown(ids),
        "greedy": greedy,
        "answer": model.answer(greedy),
        "least_margin": min(margins),
        "nodes": [golden.node(node, values) for node, values in nodes.items()],
    }


def record_trap(golden: Golden, model, trap: traps.Trap, rgb, pixels) -> dict:
    """The trap's node in both variants, and how far apart they are in the tests' measure."""
    prompt = model.prompt(cases.QUESTION)
    ids = model.ids(prompt)
    if trap.kind == "pixels":
        right, wrong = {"pixels": pixels[0].numpy()}, {"pixels": trap.plant(model, rgb)}
    else:
        right = with_next(model.nodes(ids, pixels))
        if trap.kind == "prompt":
            wrong = with_next(model.nodes(trap.plant(model, prompt), pixels))
        else:
            with trap.plant(model):
                wrong = with_next(model.nodes(ids, pixels))
            first = next(name for name in wrong if not np.array_equal(right[name], wrong[name]))
            assert first == trap.node, f"{trap.name} shows first at {first}"
    return golden.trap(trap.name, trap.about, trap.node, right[trap.node], wrong[trap.node])


def record_position_grid():
    """The real grids, 16x16 to 32x32 positions, on 24 columns instead of 3200."""
    golden, name, shape = Golden(GOLDEN, "position_grid"), "position_embedding", [1, 257, 24]
    stored = torch.from_numpy(formula.tensor("position_grid", name, shape))
    from internvl.model.internvl_chat import InternVisionConfig, InternVisionModel

    config = InternVisionConfig(hidden_size=24, num_attention_heads=1, num_hidden_layers=0, image_size=224, use_flash_attn=False)
    tower = InternVisionModel(config)
    tower.embeddings.position_embedding = torch.nn.Parameter(stored)
    tower.resize_pos_embeddings(224, 448, 14)
    resized = tower.embeddings.position_embedding
    grid = stored[:, 1:].reshape(1, 16, 16, -1).permute(0, 3, 1, 2)
    wrong = F.interpolate(grid, size=(32, 32), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    wrong = torch.cat([stored[:, :1], wrong], dim=1)
    golden.facts |= {
        "about": "position_embedding of a 224-pixel tower used at 448 pixels",
        "seed": "position_grid",
        "tensor": {"name": name, "shape": shape},
        "node": golden.node("position_grid", resized[0].numpy(), 2048),
        "wrong": {"name": "position_antialias", "node": golden.node("position_grid", wrong[0].numpy(), 2048)},
    }
    golden.write()


def record_pixels(case: cases.Case):
    golden = Golden(GOLDEN, "pixels")
    with loaded(case, case.seed) as model:
        golden.facts |= {
            "about": "sha256 of the f32 pixels [112, 112, 3] of formula pictures",
            "pictures": [
                {"name": n, "width": w, "height": h, "pixels_sha256": sha256(model.pixels(formula.picture(n, w, h)).numpy())}
                for n, w, h in PICTURES
            ],
        }
    golden.write()


def try_seeds(loaded, case, count: int):
    for n in range(count):
        seed = f"{case.name}-{n}"
        with loaded(case, seed) as model:
            pixels = model.pixels(formula.picture(**cases.PICTURE))
            report = []
            for name, turns, pixels in conversations(model, case, pixels):
                *history, (question, _) = turns
                ids = model.ids(model.prompt(question, history, n_pictures=0 if pixels is None else 1))
                greedy, margins = model.greedy(ids, pixels, N_STEPS)
                report.append(f"{name} {len(greedy)} steps, margin {min(margins):.4f}, {len(set(greedy))} different")
        print(f"{seed}: " + "; ".join(report), flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("internvl", type=Path)
    arguments.add_argument("cases", nargs="*")
    arguments.add_argument("--seeds", type=int, default=0)
    arguments = arguments.parse_args()
    warnings.simplefilter("ignore")
    oracle.use_checkout(arguments.internvl)
    wanted = [case for case in cases.CASES if not arguments.cases or case.name in arguments.cases]
    for case in wanted:
        if arguments.seeds:
            try_seeds(loaded, case, arguments.seeds)
        else:
            record_case(case)
    if not arguments.seeds and not arguments.cases:
        record_position_grid()
        record_pixels(cases.CASES[0])


if __name__ == "__main__":
    main()
