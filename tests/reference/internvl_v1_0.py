"""InternVL-Chat-V1.0: LLaVA-1.5's build with an InternViT-6B for a tower, read out four hidden states before its end.

The code is InternVL's own fork of LLaVA. Its loader takes the tower's positions to 336 pixels, or to 448 where the tower's
name says so; the real 224-pixel tower has a grid of 16x16, used on 24x24 patches, and so has the one here.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import llavas
import towers
import traps as chat_traps
from traps import patched

TOWER = towers.CONFIG | {"image_size": 224, "num_hidden_layers": 6}
N_CTX = 1280


@dataclass
class Case(llavas.Case):
    side: int = 336

    def oracle(self, *given):
        return Oracle(self, *given)

    def transformers_names(self) -> dict:
        return {}

    @property
    def files(self) -> dict:
        files = super().files
        files["config.json"] |= {
            "max_position_embeddings": N_CTX,
            "mm_vision_select_layer": -4,
            "mm_vision_tower": f"OpenGVLab/{self.tower_name}",
        }
        return files

    @property
    def tower_files(self) -> dict:
        # its own processor is ignored by the loader
        return {
            "config.json": copy.deepcopy(TOWER) | {"image_size": 448 if self.side == 448 else 224},
            "preprocessor_config.json": towers.PREPROCESSOR | {"size": 224, "crop_size": 224},
        }


CASES = [
    Case("internvl_v1_0", "InternViT-6B-224px at 336 pixels", "internvl_v1_0-11", False, ("picture", "turns"), "InternViT-6B-224px"),
    Case("internvl_v1_0_448", "InternViT-6B-448px-V1-0", "internvl_v1_0_448-13", False, ("picture",), "InternViT-6B-448px-V1-0", 448),
]


class Oracle(llavas.Oracle):
    def new_tower(self, case: Case):
        from llava.model.multimodal_encoder.intern_vit_6b.configuration_intern_vit import InternVisionConfig
        from llava.model.multimodal_encoder.intern_vit_6b.modeling_intern_vit import InternVisionModel

        return InternVisionModel(InternVisionConfig(**case.tower_files["config.json"] | {"use_flash_attn": False}))

    @property
    def n_image_tokens(self) -> int:
        return (self.side // TOWER["patch_size"]) ** 2

    def hook_tower(self, hook) -> list[str]:
        tower = self.vision.vision_tower
        hook("patch_embd", tower.embeddings.patch_embedding, lambda _, out: out.flatten(2).transpose(1, 2))
        hook("pos_embd", tower.embeddings)
        order = ["patch_embd", "pos_embd"]
        for il, block in enumerate(tower.encoder.layers[:-3]):
            for what, module in (("attn_q", block.attn.q_norm), ("attn_k", block.attn.k_norm), ("attn_out", block.attn), ("out", block)):
                hook(f"v.blk.{il}.{what}", module)
                order.append(f"v.blk.{il}.{what}")
        return order


TRAPS: list[chat_traps.Trap] = []


def trap(kind: str, node: str, about: str):
    def keep(plant):
        TRAPS.append(chat_traps.Trap(plant.__name__, "internvl_v1_0", kind, node, about, plant))
        return plant

    return keep


@trap("forward", "v.out", "LLaVA-1.5's layer, the last but one")
def select_layer_minus_2(oracle):
    return patched((oracle.vision, "select_layer", -2))


@trap("forward", "v.out", "all blocks")
def all_blocks(oracle):
    return patched((oracle.vision, "select_layer", -1))


@trap("forward", "pos_embd", "Pillow's kernel (a = -0.5, antialias) for the position grid")
def position_antialias(oracle):
    return resized(oracle, mode="bicubic", antialias=True)


@trap("forward", "pos_embd", "bilinear positions")
def position_bilinear(oracle):
    return resized(oracle, mode="bilinear")


def resized(oracle, **how):
    embeddings = oracle.vision.vision_tower.embeddings

    def resize(grid, height, width):
        side = embeddings.image_size // embeddings.patch_size
        grid = grid.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
        return F.interpolate(grid, size=(height, width), **how).reshape(1, -1, height * width).permute(0, 2, 1)

    return patched((embeddings, "_get_pos_embed", resize))


@trap("forward", "v.blk.0.out", "CLIP's quick GELU in the tower")
def quick_gelu_in_tower(oracle):
    blocks = oracle.vision.vision_tower.encoder.layers
    return patched(*((block.mlp, "act", chat_traps.QuickGelu()) for block in blocks))


def padded(oracle, rgb, colour) -> Image.Image:
    picture = Image.fromarray(rgb)
    square = Image.new("RGB", (max(picture.size),) * 2, colour)
    square.paste(picture, tuple((square.width - n) // 2 for n in picture.size))
    return square.resize((oracle.side,) * 2, Image.BICUBIC)


@trap("pixels", "pixels", "LLaVA-1.5's padding colour")
def clip_padding(oracle, rgb):
    return chat_traps.normalised(padded(oracle, rgb, (122, 116, 104)))


@trap("pixels", "pixels", "CLIP's mean and std")
def clip_mean_and_std(oracle, rgb):
    return chat_traps.normalised(padded(oracle, rgb, (123, 116, 103)), llavas.CLIP_MEAN, llavas.CLIP_STD)


@trap("pixels", "pixels", "squashed, as from V1-1 on")
def squash(oracle, rgb):
    return chat_traps.normalised(Image.fromarray(rgb).resize((oracle.side,) * 2, Image.BICUBIC))
