"""The wrong variants: each is one mistake that still gives a plausible answer, planted into the reference.

A trap names the case it is planted in and the first node that it changes. `forward` traps patch the model's code
from outside; `prompt` traps change the string; `pixels` traps change the preprocessing.
"""

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Callable
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image


@dataclass
class Trap:
    name: str
    case: str
    kind: str
    node: str
    about: str
    plant: Callable


TRAPS: list[Trap] = []


def trap(case: str, kind: str, node: str, about: str):
    def keep(plant):
        TRAPS.append(Trap(plant.__name__, case, kind, node, about, plant))
        return plant

    return keep


def patched(*changes):
    """A context in which each (object, attribute, value) holds."""
    stack = ExitStack()
    for target, attribute, value in changes:
        stack.enter_context(mock.patch.object(target, attribute, value))
    return stack


def blocks(oracle):
    return oracle.model.vision_model.encoder.layers


def rms(x, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


# Which block the tower's output is taken from, and how.


@trap("base", "forward", "v.out", "one block too many")
def select_layer_minus_3(oracle):
    return patched((oracle.model, "select_layer", -3))


@trap("base", "forward", "v.out", "one block too few, as with embeddings not counted among the hidden states")
def select_layer_minus_5(oracle):
    return patched((oracle.model, "select_layer", -5))


@trap("base", "forward", "v.out", "all blocks, as without select_layer")
def all_blocks(oracle):
    return patched((oracle.model, "select_layer", 6))


@contextmanager
def output_changed(module, change):
    handle = module.register_forward_hook(lambda _, __, output: change(output))
    try:
        yield
    finally:
        handle.remove()


@trap("base", "forward", "v.out", "a norm after the last block, as most ViTs have")
def final_norm(oracle):
    def normed(output):
        output.hidden_states = tuple(rms(x, 1e-6) for x in output.hidden_states)
        return output

    return output_changed(oracle.model.vision_model.encoder, normed)


@trap("base", "forward", "v.out", "the last row dropped instead of the CLS row")
def last_row_dropped(oracle):
    def rolled(output):
        output.hidden_states = tuple(x.roll(1, dims=1) for x in output.hidden_states)
        return output

    return output_changed(oracle.model.vision_model.encoder, rolled)


# The embeddings.


@trap("base", "forward", "pos_embd", "CLS after the patches while position rows are added from row 0")
def cls_last(oracle):
    embeddings = oracle.model.vision_model.embeddings

    def forward(pixels):
        patches = embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        return torch.cat([patches, embeddings.class_embedding], dim=1) + embeddings.position_embedding

    return patched((embeddings, "forward", forward))


@trap("base", "forward", "patch_embd", "patches in column-major order")
def patches_transposed(oracle):
    return output_changed(oracle.model.vision_model.embeddings.patch_embedding, lambda output: output.transpose(2, 3))


def resized_positions(oracle, **how):
    embeddings = oracle.model.vision_model.embeddings

    def resize(grid, height, width):
        side = embeddings.image_size // embeddings.patch_size
        grid = grid.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
        return F.interpolate(grid, size=(height, width), **how).reshape(1, -1, height * width).permute(0, 2, 1)

    return patched((embeddings, "_get_pos_embed", resize))


@trap("grid", "forward", "pos_embd", "Pillow's kernel (a = -0.5, antialias) for the position grid")
def position_antialias(oracle):
    return resized_positions(oracle, mode="bicubic", antialias=True)


@trap("grid", "forward", "pos_embd", "corners of the grids aligned")
def position_align_corners(oracle):
    return resized_positions(oracle, mode="bicubic", align_corners=True)


@trap("grid", "forward", "pos_embd", "bilinear positions")
def position_bilinear(oracle):
    return resized_positions(oracle, mode="bilinear")


# Inside the tower's blocks.


@trap("base", "forward", "v.blk.0.attn_q", "q and k norm per head instead of over the whole width")
def qk_norm_per_head(oracle):
    def per_head(norm, n_head):
        def forward(x):
            return norm.weight * rms(x.unflatten(-1, (n_head, -1)), norm.variance_epsilon).flatten(-2)

        return forward

    attentions = [block.attn for block in blocks(oracle)]
    norms = [(norm, attn.num_heads) for attn in attentions for norm in (attn.q_norm, attn.k_norm)]
    return patched(*((norm, "forward", per_head(norm, n_head)) for norm, n_head in norms))


@trap("base", "forward", "v.blk.0.attn_out", "no q and k norm")
def qk_norm_absent(oracle):
    return patched(*((block.attn, "qk_normalization", False) for block in blocks(oracle)))


@trap("base", "forward", "v.blk.0.attn_q", "the text half's row permutation on the tower's q and k")
def vision_qk_permuted(oracle):
    def permuted(attn):
        q, k, v = attn.qkv.weight.chunk(3)
        rows = torch.arange(attn.embed_dim).unflatten(0, (attn.num_heads, 2, -1)).transpose(1, 2).reshape(-1)
        return torch.nn.Parameter(torch.cat([q[rows], k[rows], v]))

    return patched(*((block.attn.qkv, "weight", permuted(block.attn)) for block in blocks(oracle)))


@trap("base", "forward", "v.blk.0.attn_q", "LayerNorm where the tower has RMSNorm")
def layer_norm_in_tower(oracle):
    def layer_norm(norm):
        return lambda x: F.layer_norm(x, x.shape[-1:], norm.weight, eps=norm.variance_epsilon)

    return patched(*((n, "forward", layer_norm(n)) for block in blocks(oracle) for n in (block.norm1, block.norm2)))


@trap("base", "forward", "v.blk.0.attn_q", "the projector's eps (1e-5) in the tower's norms")
def vision_eps_1e_5(oracle):
    return patched(
        *(
            (norm, "variance_epsilon", 1e-5)
            for block in blocks(oracle)
            for norm in (block.norm1, block.norm2, block.attn.q_norm, block.attn.k_norm)
        )
    )


@trap("base", "forward", "v.blk.0.out", "GELU's tanh form in the tower")
def gelu_tanh_in_tower(oracle):
    return patched(*((block.mlp, "act", torch.nn.GELU(approximate="tanh")) for block in blocks(oracle)))


@trap("base", "forward", "v.blk.0.out", "quick GELU in the tower")
def quick_gelu_in_tower(oracle):
    return patched(*((block.mlp, "act", QuickGelu()) for block in blocks(oracle)))


class QuickGelu(torch.nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


# From the tower into the decoder.


@trap("base", "forward", "shuffle", "shuffle v2 where the model has v1")
def shuffle_v2(oracle):
    return patched((oracle.model, "ps_version", "v2"))


@trap("shuffle_v2", "forward", "shuffle", "shuffle v1 where the model has v2")
def shuffle_v1(oracle):
    return patched((oracle.model, "ps_version", "v1"))


@trap("base", "forward", "mm.0", "the tower's eps (1e-6) in the projector's norm")
def projector_eps_1e_6(oracle):
    return patched((oracle.model.mlp1[0], "eps", 1e-6))


@trap("base", "forward", "mm.2", "GELU's tanh form in the projector")
def gelu_tanh_in_projector(oracle):
    return patched((oracle.model.mlp1[2], "approximate", "tanh"))


# Inside the decoder.


@trap("base", "forward", "blk.0.attn_out", "the tower's eps (1e-6) in the decoder's norms")
def text_eps_1e_6(oracle):
    llama = oracle.model.language_model.model
    norms = [n for layer in llama.layers for n in (layer.input_layernorm, layer.post_attention_layernorm)]
    return patched(*((norm, "variance_epsilon", 1e-6) for norm in [*norms, llama.norm]))


@trap("base", "forward", "blk.0.attn_out", "neighbouring pairs rotated while the rows are not permuted")
def rope_pairs_without_permutation(oracle):
    import transformers.models.llama.modeling_llama as llama

    def rotate(q, k, cos, sin, position_ids, unsqueeze_dim=1):
        half = cos.shape[-1] // 2
        cos, sin = (x[position_ids][..., :half].unsqueeze(unsqueeze_dim) for x in (cos, sin))

        def pairs(x):
            a, b = x[..., 0::2], x[..., 1::2]
            return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)

        return pairs(q), pairs(k)

    return patched((llama, "apply_rotary_pos_emb", rotate))


@trap("gqa", "forward", "blk.0.attn_out", "rope_theta 10000 where the config has another")
def rope_theta_default(oracle):
    import transformers.models.llama.modeling_llama as llama

    layers = oracle.model.language_model.model.layers
    dim = layers[0].self_attn.head_dim
    return patched(*((x.self_attn, "rotary_emb", llama.LlamaRotaryEmbedding(dim, 512, 10000.0)) for x in layers))


@trap("gqa", "forward", "blk.0.attn_out", "key heads laid out as 0 1 0 1 over the query heads instead of 0 0 1 1")
def kv_heads_tiled(oracle):
    import transformers.models.llama.modeling_llama as llama

    return patched((llama, "repeat_kv", lambda x, n_rep: x.repeat(1, n_rep, 1, 1)))


@trap("base", "forward", "inp_embd", "the embedding of <IMG_CONTEXT> left where image rows belong")
def image_rows_left_out(oracle):
    return patched((oracle.model, "img_context_token_id", -1))


# The prompt: measured at the logits of the next token.


@trap("base", "prompt", "next", "no space before the first <human>")
def no_leading_space(oracle, prompt):
    return oracle.ids(prompt.removeprefix(" "))


@trap("base", "prompt", "next", "a space after the last '<bot>:'")
def space_after_bot(oracle, prompt):
    return oracle.ids(prompt + " ")


@trap("base", "prompt", "next", "no newline between the picture and the question")
def no_newline_after_picture(oracle, prompt):
    return oracle.ids(prompt.replace("</img>\n", "</img>"))


@trap("base", "prompt", "next", "no BOS")
def no_bos(oracle, prompt):
    return oracle.ids(prompt)[1:]


@trap("base", "prompt", "next", "non-legacy segments: no prefix after a special token")
def segments_not_legacy(oracle, prompt):
    return with_legacy(oracle, False)(prompt)["input_ids"]


@trap("not_legacy", "prompt", "next", "legacy segments: a prefix after every special token")
def segments_legacy(oracle, prompt):
    return with_legacy(oracle, True)(prompt)["input_ids"]


def with_legacy(oracle, legacy: bool):
    from transformers import LlamaTokenizer

    return LlamaTokenizer.from_pretrained(oracle.tokenizer.name_or_path, add_eos_token=False, legacy=legacy)


# V1-2: what its relatives do instead.


@trap("v1_2", "forward", "v.out", "V1-1's select_layer")
def select_layer_of_v1_1(oracle):
    return patched((oracle.model, "select_layer", -4))


@trap("v1_2", "forward", "shuffle", "shuffle v2, as in V1-5 and later")
def shuffle_of_v1_5(oracle):
    return patched((oracle.model, "ps_version", "v2"))


@trap("v1_2", "forward", "blk.0.attn_out", "rope_theta 10000 where the config has Yi's")
def rope_theta_of_llama(oracle):
    return rope_theta_default(oracle)


@trap("v1_2", "forward", "blk.0.attn_out", "key heads laid out as 0 1 0 1 over the query heads instead of 0 0 1 1")
def seven_kv_heads_tiled(oracle):
    return kv_heads_tiled(oracle)


@trap("v1_2", "prompt", "next", "a newline behind <|im_end|>, as in InternVL2.5")
def newline_after_im_end(oracle, prompt):
    return oracle.ids(prompt.replace("<|im_end|>", "<|im_end|>\n"))


@trap("v1_2", "prompt", "next", "no newline behind assistant")
def no_newline_after_assistant(oracle, prompt):
    return oracle.ids(prompt.removesuffix("\n"))


@trap("v1_2", "prompt", "next", "no system message")
def no_system(oracle, prompt):
    return oracle.ids(prompt[prompt.index("<|im_end|>") + len("<|im_end|>") :])


@trap("v1_2", "prompt", "next", "an empty system message")
def empty_system(oracle, prompt):
    return oracle.ids(prompt.replace(oracle.config.system_message, "", 1))


@trap("v1_2", "prompt", "next", "a BOS, as InternLM2's tokenizer adds one")
def bos_of_internlm2(oracle, prompt):
    return [oracle.tokenizer.bos_token_id, *oracle.ids(prompt)]


@trap("v1_2", "prompt", "next", "LLaMA's dummy prefix before the text behind every special token")
def dummy_prefix_of_llama(oracle, prompt):
    return oracle.ids(prompt.replace("<|im_start|>", "<|im_start|> ").replace("</img>", "</img> "))


@trap("v1_2_added", "prompt", "next", "non-legacy segments: no prefix after a special token")
def chatml_segments_not_legacy(oracle, prompt):
    return with_legacy(oracle, False)(prompt)["input_ids"]


# The pixels.


@trap("base", "pixels", "pixels", "shortest edge and centre crop, as preprocessor_config.json reads")
def centre_crop(oracle, rgb):
    picture = Image.fromarray(rgb)
    side, short = oracle.side, min(picture.size)
    picture = picture.resize([side * n // short for n in picture.size], Image.BICUBIC)
    left, top = ((n - side) // 2 for n in picture.size)
    return normalised(picture.crop((left, top, left + side, top + side)))


@trap("base", "pixels", "pixels", "padded to a square, as V1.0 does")
def pad_to_square(oracle, rgb):
    picture = Image.fromarray(rgb)
    square = Image.new("RGB", (max(picture.size),) * 2, (123, 116, 103))
    square.paste(picture, tuple((square.width - n) // 2 for n in picture.size))
    return normalised(square.resize((oracle.side,) * 2, Image.BICUBIC))


@trap("base", "pixels", "pixels", "bicubic with a = -0.75 and without antialias, as torch and OpenCV have it")
def torch_bicubic(oracle, rgb):
    planes = torch.from_numpy(rgb).permute(2, 0, 1)[None].float()
    planes = F.interpolate(planes, size=(oracle.side,) * 2, mode="bicubic").round().clamp(0, 255)
    return normalised(planes[0].permute(1, 2, 0).to(torch.uint8).numpy())


@trap("base", "pixels", "pixels", "bilinear, many libraries' default")
def pillow_bilinear(oracle, rgb):
    return normalised(Image.fromarray(rgb).resize((oracle.side,) * 2, Image.BILINEAR))


@trap("base", "pixels", "pixels", "CLIP's mean and std")
def clip_mean_and_std(oracle, rgb):
    squashed = Image.fromarray(rgb).resize((oracle.side,) * 2, Image.BICUBIC)
    return normalised(squashed, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@trap("base", "pixels", "pixels", "blue, green, red")
def bgr(oracle, rgb):
    return normalised(Image.fromarray(rgb[:, :, ::-1].copy()).resize((oracle.side,) * 2, Image.BICUBIC))


def normalised(picture, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)):
    values = np.asarray(picture).astype(np.float32) / np.float32(255)
    return ((values - np.float32(mean)) / np.float32(std)).transpose(2, 0, 1)
