"""Records tests/golden/parity/{llava,internvl_v1_0}*: python record_llava.py CHECKOUT [--seeds N]

Comes in: a checkout of haotian-liu/LLaVA, for the cases of llavas.py, or internvl_chat_llava of one of OpenGVLab/InternVL,
which is a fork of it, for those of internvl_v1_0.py. Goes out: a golden a case. `--seeds N` as in record_parity.py.
"""

import argparse
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

import cases
import formula
import internvl_v1_0
import llavas
from golden import Golden, listed, sha256
from record_parity import GOLDEN, PICTURES, conversations, record_conversation, record_trap, tell, try_seeds


@contextmanager
def loaded(case: llavas.Case, seed: str):
    with tempfile.TemporaryDirectory() as folder:
        yield case.oracle(seed, Path(folder), GOLDEN / "tokenizer.model")


def record_case(case: llavas.Case):
    golden = Golden(GOLDEN, case.name)
    with loaded(case, case.seed) as model:
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
    tell(golden)


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
            try_seeds(loaded, case, arguments.seeds)
        else:
            record_case(case)


if __name__ == "__main__":
    main()
