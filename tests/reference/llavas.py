"""LLaVA-1.5: a tiny checkpoint with its CLIP tower beside it, the authors' own code on them, and the wrong variants.

Comes in: the path of a LLaVA checkout and a case. Goes out: pixels, nodes, greedy tokens, answers. Nothing of the foreign
code is copied or edited.
"""

import contextlib
import copy
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import cases
import formula
import traps as chat_traps
from nodes import chosen, first_input, reading
from traps import output_changed, patched

IMAGE_ID = 2**32 - 1  # what stands in the recorded ids where a picture's rows go; the authors' -200 is no u32
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]

TOWER = {
    "attention_dropout": 0.0,
    "hidden_act": "quick_gelu",
    "hidden_size": 96,
    "image_size": 112,
    "intermediate_size": 384,
    "layer_norm_eps": 1e-5,
    "model_type": "clip_vision_model",
    "num_attention_heads": 3,
    "num_channels": 3,
    "num_hidden_layers": 4,
    "patch_size": 14,
    "projection_dim": 64,
}
TOWER_PREPROCESSOR = {
    "crop_size": 112,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
    "resample": 3,
    "size": 112,
}
LLM = cases.CONFIG["llm_config"]
CONFIG = LLM | {
    "architectures": ["LlavaLlamaForCausalLM"],
    "model_type": "llava",
    "freeze_mm_mlp_adapter": False,
    "image_aspect_ratio": "pad",
    "mm_hidden_size": 96,
    "mm_projector_type": "mlp2x_gelu",
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "pad_token_id": 0,
    "tune_mm_mlp_adapter": False,
    "use_mm_proj": True,
    "vocab_size": cases.N_PIECES,
}


@dataclass
class Case:
    name: str
    about: str
    seed: str
    legacy: bool
    conversations: tuple
    tower_name: str = "tower"

    @property
    def files(self) -> dict:
        tokenizer = copy.deepcopy(cases.TOKENIZER_CONFIG) | {"legacy": self.legacy}
        for key in ("added_tokens_decoder", "additional_special_tokens"):
            tokenizer.pop(key)
        return {"config.json": copy.deepcopy(CONFIG), "tokenizer_config.json": tokenizer}

    def oracle(self, *given):
        return Oracle(self, *given)

    def transformers_names(self) -> dict:
        return transformers_names()

    @property
    def tower_files(self) -> dict:
        # the whole CLIP's config.json, as openai has it
        whole = {"architectures": ["CLIPModel"], "model_type": "clip", "vision_config": TOWER}
        return {"config.json": whole, "preprocessor_config.json": TOWER_PREPROCESSOR}


CASES = [
    Case("llava", "the authors' layout, tokenizer with legacy false as Vicuna's", "llava-13", False, ("picture", "text", "turns")),
    Case("llava_legacy", "tokenizer with legacy true", "llava_legacy-8", True, ("picture", "turns")),
]


def use_checkout(llava: Path):
    """Makes `llava.*` importable; call it once, before anything else here."""
    assert (llava / "llava/mm_utils.py").exists(), f"{llava} is no LLaVA checkout"
    sys.path.insert(0, str(llava))
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)


class Oracle:
    def __init__(self, case: Case, seed: str, folder: Path, tokenizer_model: Path):
        from llava.model.language_model.llava_llama import LlavaConfig, LlavaLlamaForCausalLM
        from transformers import LlamaTokenizer

        # the loader knows an InternViT, and its side in pixels, by the tower's name
        beside = folder / case.tower_name
        tower = self.new_tower(case).float().eval()
        self.tower_tensors = weights(seed, tower)
        tower.load_state_dict(as_torch(self.tower_tensors), strict=True)
        tower.save_pretrained(beside)
        (beside / "preprocessor_config.json").write_text(json.dumps(case.tower_files["preprocessor_config.json"]))
        for name, value in case.files.items():
            (folder / name).write_text(json.dumps(value))
        shutil.copy(tokenizer_model, folder / "tokenizer.model")

        config = LlavaConfig(**case.files["config.json"] | {"mm_vision_tower": str(beside)})
        config._attn_implementation = "eager"
        self.model = LlavaLlamaForCausalLM(config).float().eval()
        self.tensors = weights(seed, self.model)
        self.model.load_state_dict(as_torch(self.tensors), strict=True)
        self.vision = self.model.get_vision_tower()
        self.vision.load_model()
        self.vision.float().eval()
        self.tokenizer = LlamaTokenizer.from_pretrained(str(folder))

    def new_tower(self, case: Case):
        from transformers import CLIPVisionConfig, CLIPVisionModel

        return CLIPVisionModel(CLIPVisionConfig(**TOWER))

    @property
    def side(self) -> int:
        return self.vision.image_processor.crop_size["height"]

    @property
    def n_image_tokens(self) -> int:
        return self.vision.num_patches

    def hook_tower(self, hook) -> list[str]:
        """Has the tower's nodes read; their names in order."""
        clip = self.vision.vision_tower.vision_model
        hook("patch_embd", clip.embeddings.patch_embedding, lambda _, out: out.flatten(2).transpose(1, 2))
        hook("pos_embd", clip.embeddings)
        hook("pre_ln", clip.pre_layrnorm)
        order = ["patch_embd", "pos_embd", "pre_ln"]
        for il, block in enumerate(clip.encoder.layers[:-1]):
            hook(f"v.blk.{il}.attn_out", block.self_attn)
            hook(f"v.blk.{il}.out", block)
            order += [f"v.blk.{il}.attn_out", f"v.blk.{il}.out"]
        return order

    def pixels(self, rgb: np.ndarray) -> torch.Tensor:
        """[1, 3, side, side], as LLaVA's evaluations make them."""
        from llava.mm_utils import process_images

        return process_images([Image.fromarray(rgb)], self.vision.image_processor, self.model.config)

    def prompt(self, question: str, history=(), n_pictures: int = 1) -> str:
        from llava.conversation import conv_templates

        conversation = conv_templates["vicuna_v1"].copy()
        for asked, answered in history:
            conversation.append_message(conversation.roles[0], asked)
            conversation.append_message(conversation.roles[1], answered)
        if n_pictures and not history:
            question = "<image>\n" + question
        conversation.append_message(conversation.roles[0], question)
        conversation.append_message(conversation.roles[1], None)
        return conversation.get_prompt()

    def ids(self, prompt: str) -> list[int]:
        """With -200 for a picture."""
        from llava.mm_utils import tokenizer_image_token

        return tokenizer_image_token(prompt, self.tokenizer)

    def shown(self, ids: list[int]) -> list[int]:
        """A picture's place as often as it takes positions."""
        return [one for i in ids for one in ([IMAGE_ID] * self.n_image_tokens if i == -200 else [i])]

    def written(self, prompt: str) -> str:
        return prompt

    def nodes(self, ids: list[int], pixels) -> dict[str, np.ndarray]:
        with reading() as (seen, hook):
            llama = self.model.model
            order = self.hook_tower(hook)
            hook("v.out", self.vision)
            hook("shuffle", llama.mm_projector, first_input)
            hook("mm.1", llama.mm_projector[0])
            hook("mm.2", llama.mm_projector[1])
            hook("mm.out", llama.mm_projector)
            hook("inp_embd", llama.layers[0], first_input)
            for il, layer in enumerate(llama.layers):
                hook(f"blk.{il}.attn_out", layer.self_attn)
                hook(f"blk.{il}.out", layer)
            hook("output_norm", llama.norm)
            hook("logits", self.model.lm_head)
            self.model(input_ids=torch.tensor([ids]), images=pixels)
        order += ["v.out", "shuffle", "mm.1", "mm.2", "mm.out", "inp_embd"]
        order += [f"blk.{il}.{what}" for il in range(len(llama.layers)) for what in ("attn_out", "out")]
        return {name: seen[name] for name in [*order, "output_norm", "logits"] if name in seen}

    def greedy(self, ids: list[int], pixels, n_steps: int) -> tuple[list[int], list[float]]:
        out = self.model.generate(
            torch.tensor([ids]),
            images=pixels,
            max_new_tokens=n_steps,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
        )
        return chosen(out)

    def answer(self, new: list[int]) -> str:
        return self.tokenizer.batch_decode([new], skip_special_tokens=True)[0].strip()


def weights(seed: str, module) -> dict[str, np.ndarray]:
    """Formula values for everything but counters."""
    named = ((name, old) for name, old in module.state_dict().items() if old.is_floating_point())
    return {name: formula.tensor(seed, name, list(old.shape)) for name, old in named}


def as_torch(tensors: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in tensors.items()}


def transformers_names() -> dict[str, str]:
    """Names of transformers' own LLaVA, from those of the authors' two checkpoints; checked against its module."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    text = LlamaConfig(**LLM | {"vocab_size": cases.N_PIECES})
    model = LlavaForConditionalGeneration(LlavaConfig(CLIPVisionConfig(**TOWER), text, vision_feature_layer=-2))
    names = {}
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            authors = name.removeprefix("language_model.").removeprefix("vision_tower.")
            authors = authors.replace("multi_modal_projector.linear_1", "model.mm_projector.0")
            names[authors.replace("multi_modal_projector.linear_2", "model.mm_projector.2")] = name
    return names


TRAPS: list[chat_traps.Trap] = []


def trap(case: str, kind: str, node: str, about: str):
    def keep(plant):
        TRAPS.append(chat_traps.Trap(plant.__name__, case, kind, node, about, plant))
        return plant

    return keep


def clip_of(oracle):
    return oracle.vision.vision_tower.vision_model


# The tower.


@trap("llava", "forward", "v.out", "all blocks, as without the select layer")
def all_blocks(oracle):
    return patched((oracle.vision, "select_layer", -1))


@trap("llava", "forward", "v.out", "one block too few, as in files that say 23 and run one less")
def select_layer_minus_3(oracle):
    return patched((oracle.vision, "select_layer", -3))


@trap("llava", "forward", "v.out", "post_layernorm behind the last block that runs")
def post_layernorm(oracle):
    norm = clip_of(oracle).post_layernorm
    right = oracle.vision.feature_select
    return patched((oracle.vision, "feature_select", lambda out: norm(right(out))))


@trap("llava", "forward", "v.out", "the last row dropped instead of the CLS row")
def last_row_dropped(oracle):
    select = oracle.vision.select_layer
    return patched((oracle.vision, "feature_select", lambda out: out.hidden_states[select][:, :-1]))


@trap("llava", "forward", "pre_ln", "no norm before the first block")
def pre_norm_left_out(oracle):
    return output_changed_to_input(clip_of(oracle).pre_layrnorm)


@contextlib.contextmanager
def output_changed_to_input(module):
    handle = module.register_forward_hook(lambda _, inputs, __: inputs[0], prepend=True)
    try:
        yield
    finally:
        handle.remove()


@trap("llava", "forward", "pre_ln", "eps 1e-6, InternViT's, in the tower's norms")
def eps_1e_6(oracle):
    norms = [m for m in clip_of(oracle).modules() if isinstance(m, torch.nn.LayerNorm)]
    return patched(*((norm, "eps", 1e-6) for norm in norms))


@trap("llava", "forward", "v.blk.0.out", "the exact GELU in the tower")
def gelu_erf_in_tower(oracle):
    return patched(*((block.mlp, "activation_fn", torch.nn.GELU()) for block in clip_of(oracle).encoder.layers))


@trap("llava", "forward", "v.blk.0.attn_out", "the biases of q and k swapped")
def bias_rows_swapped(oracle):
    attentions = [block.self_attn for block in clip_of(oracle).encoder.layers]
    pairs = [(a.q_proj, a.k_proj) for a in attentions]
    return patched(*((x, "bias", y.bias) for q, k in pairs for x, y in ((q, k), (k, q))))


@trap("llava", "forward", "mm.2", "GELU's tanh form in the projector")
def gelu_tanh_in_projector(oracle):
    return patched((oracle.model.model.mm_projector[1], "approximate", "tanh"))


@trap("llava", "forward", "mm.2", "the tower's quick GELU in the projector")
def quick_gelu_in_projector(oracle):
    gelu = oracle.model.model.mm_projector[1]
    return patched((gelu, "forward", lambda x: x * torch.sigmoid(1.702 * x)))


# The prompt: measured at the logits of the next token.


@trap("llava", "prompt", "next", "the text behind the picture without the prefix that a text of its own gets")
def no_prefix_behind_picture(oracle, prompt):
    ids = oracle.ids(prompt)
    at = ids.index(-200) + 1
    assert oracle.tokenizer.convert_ids_to_tokens(ids[at]) == "▁", ids
    return ids[:at] + ids[at + 1 :]


@trap("llava", "prompt", "next", "a BOS before each text")
def bos_before_each_text(oracle, prompt):
    ids = oracle.ids(prompt)
    at = ids.index(-200) + 1
    return ids[:at] + [1] + ids[at:]


@trap("llava", "prompt", "next", "no space between 'USER:' and the picture")
def no_space_before_picture(oracle, prompt):
    return oracle.ids(prompt.replace("USER: <image>", "USER:<image>"))


@trap("llava", "prompt", "next", "no newline between the picture and the question")
def no_newline_after_picture(oracle, prompt):
    return oracle.ids(prompt.replace("<image>\n", "<image>"))


@trap("llava", "prompt", "next", "a space after the last 'ASSISTANT:'")
def space_after_assistant(oracle, prompt):
    return oracle.ids(prompt + " ")


@trap("llava", "prompt", "next", "the system message of llava_v1, with a human for a user")
def llava_v1_system(oracle, prompt):
    return oracle.ids(prompt.replace("curious user", "curious human").replace("user's questions", "human's questions"))


@trap("llava", "prompt", "next", "no system message")
def no_system(oracle, prompt):
    return oracle.ids(prompt[prompt.index("USER:") :])


# The pixels.


@trap("llava", "pixels", "pixels", "shortest edge and centre crop, as the tower's own processor does")
def centre_crop(oracle, rgb):
    return oracle.vision.image_processor(Image.fromarray(rgb), return_tensors="pt").pixel_values[0].numpy()


def padded(oracle, rgb, colour, at=None):
    picture = Image.fromarray(rgb)
    square = Image.new("RGB", (max(picture.size),) * 2, colour)
    square.paste(picture, tuple((square.width - n) // 2 for n in picture.size) if at is None else at)
    return chat_traps.normalised(square.resize((oracle.side,) * 2, Image.BICUBIC), CLIP_MEAN, CLIP_STD)


@trap("llava", "pixels", "pixels", "black padding")
def black_padding(oracle, rgb):
    return padded(oracle, rgb, (0, 0, 0))


@trap("llava", "pixels", "pixels", "InternVL's padding colour")
def imagenet_padding(oracle, rgb):
    return padded(oracle, rgb, (123, 116, 103))


@trap("llava", "pixels", "pixels", "the picture in the corner of its square")
def corner(oracle, rgb):
    return padded(oracle, rgb, (122, 116, 104), (0, 0))


@trap("llava", "pixels", "pixels", "both sides squashed")
def squash(oracle, rgb):
    return chat_traps.normalised(Image.fromarray(rgb).resize((oracle.side,) * 2, Image.BICUBIC), CLIP_MEAN, CLIP_STD)


@trap("llava", "pixels", "pixels", "ImageNet's mean and std")
def imagenet_mean_and_std(oracle, rgb):
    picture = Image.fromarray(rgb)
    square = Image.new("RGB", (max(picture.size),) * 2, (122, 116, 104))
    square.paste(picture, tuple((square.width - n) // 2 for n in picture.size))
    return chat_traps.normalised(square.resize((oracle.side,) * 2, Image.BICUBIC))
