"""Records tests/golden/parity/llava_hf: python record_llava_hf.py LLAVA_CHECKOUT

Comes in: a checkout of haotian-liu/LLaVA, whose processor and prompt are those of the case `llava`. Goes out: what
transformers' own LlavaForConditionalGeneration makes of the same numbers under its own names, node by node.
"""

import sys
from pathlib import Path

import numpy as np
import torch

import cases
import formula
import llavas
from golden import N_TRAP_SAMPLES, Golden
from nodes import first_input, reading, with_next
from record_llava import loaded
from record_parity import GOLDEN

# A piece that the prompt doesn't have: where it stands, transformers puts the picture's rows.
IMAGE_ID = cases.N_PIECES - 1


class Transformers:
    """The case's weights in transformers' module."""

    def __init__(self, oracle: llavas.Oracle, vision_feature_layer: int = -2):
        from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

        text = LlamaConfig(**llavas.LLM | {"vocab_size": cases.N_PIECES, "max_position_embeddings": 512})
        config = LlavaConfig(
            CLIPVisionConfig(**llavas.TOWER), text, vision_feature_layer=vision_feature_layer, image_token_index=IMAGE_ID, pad_token_id=-1
        )
        config.text_config._attn_implementation = "eager"
        self.model = LlavaForConditionalGeneration(config).float().eval()
        authors = oracle.tensors | oracle.tower_tensors
        state = {name: torch.from_numpy(authors[known]) for known, name in llavas.transformers_names().items()}
        missing = self.model.load_state_dict(state, strict=False).missing_keys
        assert all(name.endswith(("position_ids", "inv_freq")) for name in missing), missing

    def nodes(self, ids: list[int], pixels) -> dict[str, np.ndarray]:
        with reading() as (seen, hook):
            clip, llama = self.model.vision_tower.vision_model, self.model.language_model
            hook("pre_ln", clip.pre_layrnorm)
            for il, block in enumerate(clip.encoder.layers[:-1]):
                hook(f"v.blk.{il}.out", block)
            hook("v.out", self.model.multi_modal_projector, first_input)
            hook("mm.out", self.model.multi_modal_projector)
            hook("inp_embd", llama.model.layers[0], first_input)
            for il, layer in enumerate(llama.model.layers):
                hook(f"blk.{il}.out", layer)
            hook("output_norm", llama.model.norm)
            hook("logits", llama.lm_head)
            tokens = torch.tensor([[IMAGE_ID if i == -200 else i for i in ids]])
            self.model(input_ids=tokens, pixel_values=pixels, attention_mask=torch.ones_like(tokens))
        return with_next(seen)


def main():
    llavas.use_checkout(Path(sys.argv[1]))
    case = llavas.CASES[0]
    golden = Golden(GOLDEN, "llava_hf")
    with loaded(case, case.seed) as oracle:
        pixels = oracle.pixels(formula.picture(**cases.PICTURE))
        ids = oracle.ids(oracle.prompt(cases.QUESTION))
        assert IMAGE_ID not in ids
        nodes = Transformers(oracle).nodes(ids, pixels)
        wrong = Transformers(oracle, vision_feature_layer=-1).nodes(ids, pixels)["v.out"]
        golden.facts |= {
            "about": "transformers' own module with the numbers of the case llava",
            "nodes": [golden.node(name, values) for name, values in nodes.items()],
            "wrong": golden.node("v.out", wrong, N_TRAP_SAMPLES),
        }
    golden.write()
    ours = with_next(oracle.nodes(ids, pixels))
    for name, values in nodes.items():
        apart = np.abs(values - ours[name]).max() / np.sqrt(np.mean(ours[name] ** 2))
        print(f"{name}: {apart:.2g} from the authors' module")


if __name__ == "__main__":
    main()
