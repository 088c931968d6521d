"""InternViT on its own: tiny checkpoints, the model's own code on them, and the wrong variants.

Comes in: a case. Goes out: pixels, nodes, last hidden state and pooled output, as plain use of transformers yields them:
CLIPImageProcessor on the case's preprocessor_config.json, then the model. `oracle.use_checkout` comes first.
"""

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import cases
import formula
import traps as chat_traps
from nodes import reading
from traps import patched, rms

CONFIG = cases.CONFIG["vision_config"] | {"num_hidden_layers": 4}
PREPROCESSOR = {
    "crop_size": 112,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": 112,
}
SMALL = {"norm_type": "layer_norm", "qkv_bias": True, "qk_normalization": False, "initializer_factor": 1.0}


@dataclass
class Case:
    name: str
    about: str
    side: int = 112
    config: dict = field(default_factory=dict)

    @property
    def files(self) -> dict:
        preprocessor = PREPROCESSOR | {"size": self.side, "crop_size": self.side}
        return {"config.json": copy.deepcopy(CONFIG) | self.config, "preprocessor_config.json": preprocessor}


CASES = [
    Case("tower_6b", "InternViT-6B's build: RMS norms, q and k norm, no bias in qkv"),
    Case("tower_300m", "InternViT-300M's build: LayerNorm with bias, bias in qkv, no q and k norm", config=SMALL),
    Case("tower_grid", "positions for 4x4 patches, used on 8x8", config={"image_size": 56}),
]


class Tower:
    def __init__(self, case: Case):
        from internvl.model.internvl_chat import InternVisionConfig, InternVisionModel
        from transformers import CLIPImageProcessor

        files = case.files
        self.side = case.side
        self.processor = CLIPImageProcessor(**files["preprocessor_config.json"])
        self.model = InternVisionModel(InternVisionConfig(**files["config.json"] | {"use_flash_attn": False})).float().eval()
        names = self.model.state_dict().items()
        self.tensors = {name: formula.tensor(case.name, name, list(old.shape)) for name, old in names}
        self.model.load_state_dict({name: torch.from_numpy(t) for name, t in self.tensors.items()}, strict=True)

    def pixels(self, rgb: np.ndarray) -> torch.Tensor:
        """[1, 3, side, side]; the order of dimensions is said, since the processor guesses wrong where a side is 1 or 3."""
        return self.processor(images=Image.fromarray(rgb), return_tensors="pt", input_data_format="channels_last").pixel_values

    def nodes(self, pixels: torch.Tensor) -> dict[str, np.ndarray]:
        with reading() as (seen, hook):
            hook("patch_embd", self.model.embeddings.patch_embedding, lambda _, out: out.flatten(2).transpose(1, 2))
            hook("pos_embd", self.model.embeddings)
            for il, block in enumerate(self.model.encoder.layers):
                if block.attn.qk_normalization:
                    hook(f"v.blk.{il}.attn_q", block.attn.q_norm)
                    hook(f"v.blk.{il}.attn_k", block.attn.k_norm)
                hook(f"v.blk.{il}.attn_out", block.attn)
                hook(f"v.blk.{il}.out", block)
            out = self.model(pixel_values=pixels)
        order = ["patch_embd", "pos_embd"]
        for il in range(len(self.model.encoder.layers)):
            order += [f"v.blk.{il}.{what}" for what in ("attn_q", "attn_k", "attn_out", "out")]
        seen["last_hidden_state"] = out.last_hidden_state[0].numpy()
        seen["pooler_output"] = out.pooler_output.numpy()
        return {name: seen[name] for name in [*order, "last_hidden_state", "pooler_output"] if name in seen}


@dataclass
class Trap:
    name: str
    case: str
    node: str
    about: str
    plant: object


TRAPS: list[Trap] = []


def trap(case: str, node: str, about: str):
    def keep(plant):
        TRAPS.append(Trap(plant.__name__, case, node, about, plant))
        return plant

    return keep


# A forward trap yields a context; one on pixels is given the picture and yields what the model would be shown.


@trap("tower_6b", "last_hidden_state", "three blocks left out, as a chat model reads the tower")
def fourth_to_last(tower):
    return patched((tower.model.encoder, "layers", tower.model.encoder.layers[:-3]))


@trap("tower_6b", "last_hidden_state", "a norm behind the last block")
def final_norm(tower):
    def normed(output):
        output.last_hidden_state = rms(output.last_hidden_state, 1e-6)
        return output

    return chat_traps.output_changed(tower.model.encoder, normed)


@trap("tower_6b", "pooler_output", "the patches' mean as the pooled output")
def mean_pooling(tower):
    def pooled(output):
        output.pooler_output = output.last_hidden_state[:, 1:].mean(1)
        return output

    return chat_traps.output_changed(tower.model, pooled)


@trap("tower_300m", "v.blk.0.attn_out", "RMSNorm where the tower has LayerNorm")
def rms_norm(tower):
    def plain(norm):
        return lambda x: rms(x, norm.eps) * norm.weight + norm.bias

    norms = [norm for block in tower.model.encoder.layers for norm in (block.norm1, block.norm2)]
    return patched(*((norm, "forward", plain(norm)) for norm in norms))


@trap("tower_300m", "v.blk.0.attn_out", "no bias in the norms")
def norm_bias_left_out(tower):
    norms = [norm for block in tower.model.encoder.layers for norm in (block.norm1, block.norm2)]
    return patched(*((norm, "bias", None) for norm in norms))


@trap("tower_300m", "v.blk.0.attn_out", "no bias in qkv")
def qkv_bias_left_out(tower):
    return patched(*((block.attn.qkv, "bias", None) for block in tower.model.encoder.layers))


@trap("tower_300m", "v.blk.0.attn_out", "the bias of q and k swapped")
def bias_rows_swapped(tower):
    def swapped(bias):
        q, k, v = bias.chunk(3)
        return torch.nn.Parameter(torch.cat([k, q, v]))

    return patched(*((b.attn.qkv, "bias", swapped(b.attn.qkv.bias)) for b in tower.model.encoder.layers))


@trap("tower_300m", "v.blk.0.attn_out", "eps 1e-5, PyTorch's default, in the norms")
def eps_1e_5(tower):
    norms = [norm for block in tower.model.encoder.layers for norm in (block.norm1, block.norm2)]
    return patched(*((norm, "eps", 1e-5) for norm in norms))


@trap("tower_grid", "pos_embd", "Pillow's kernel (a = -0.5, antialias) for the position grid")
def position_antialias(tower):
    embeddings = tower.model.embeddings

    def resize(grid, height, width):
        side = embeddings.image_size // embeddings.patch_size
        grid = grid.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=(height, width), mode="bicubic", antialias=True)
        return grid.reshape(1, -1, height * width).permute(0, 2, 1)

    return patched((embeddings, "_get_pos_embed", resize))


@trap("tower_6b", "pixels", "both sides squashed, as the chat models do")
def squash(tower, rgb):
    return chat_traps.normalised(Image.fromarray(rgb).resize((tower.side,) * 2, Image.BICUBIC))


@trap("tower_6b", "pixels", "the top left cut out instead of the middle")
def corner_crop(tower, rgb):
    picture = Image.fromarray(rgb)
    picture = picture.resize([int(tower.side * n / min(picture.size)) for n in picture.size], Image.BICUBIC)
    return chat_traps.normalised(picture.crop((0, 0, tower.side, tower.side)))


@trap("tower_6b", "pixels", "cut out first, then resized")
def crop_first(tower, rgb):
    picture = Image.fromarray(rgb)
    side = min(picture.size)
    left, top = ((n - side) // 2 for n in picture.size)
    picture = picture.crop((left, top, left + side, top + side))
    return chat_traps.normalised(picture.resize((tower.side,) * 2, Image.BICUBIC))
