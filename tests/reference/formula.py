"""Weights, pictures and sample positions from a formula that tests/suite/parity computes too.

Comes in: a seed word and a name. Goes out: f32 tensors and u8 pictures, equal bit for bit in both languages.
Knows nothing of PyTorch, checkpoints or goldens.
"""

import math

import numpy as np

GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)


def fnv1a64(data: bytes) -> int:
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def stream(name: str, count: int) -> np.ndarray:
    """The first `count` u64 of the splitmix64 stream whose state starts at the hash of `name`."""
    with np.errstate(over="ignore"):
        z = np.uint64(fnv1a64(name.encode())) + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN_RATIO
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def offset_and_scale(name: str, shape: list[int]) -> tuple[float, float]:
    """What a tensor's values are centred on, and how far they reach to either side.

    The residual streams are kept small (rms 0.02 to 0.05) on purpose: only then do the norms' eps change a digit
    that a test can see. q, k and v are small as well, because q and k have norms of their own.
    """
    fan_in = math.prod(shape[1:])
    unit = math.sqrt(3.0 / fan_in)  # uniform numbers of this reach give an output as large as the input
    for ends, pair in (
        (("q_norm.weight", "k_norm.weight"), (1.5, 0.4)),
        (("norm.weight", "norm1.weight", "norm2.weight", "layernorm.weight", "mlp1.0.weight"), (1.0, 0.2)),
        ((".ls1",), (0.6, 0.2)),
        ((".ls2",), (0.05, 0.02)),
        (("class_embedding", "position_embedding", "position_embedding.weight"), (0.0, 0.03)),
        (("patch_embedding.weight",), (0.0, 0.03 * unit)),
        (("patch_embedding.bias", "attn.proj.bias", "mlp1.3.bias", "mm_projector.2.bias"), (0.0, 0.01)),
        ((".bias",), (0.0, 0.1)),
        (("attn.qkv.weight",), (0.0, 0.04 * unit)),
        (("mlp1.3.weight", "mm_projector.2.weight"), (0.0, 0.06 * unit)),
        (("embed_tokens.weight",), (0.0, 0.05)),
        (("q_proj.weight", "k_proj.weight"), (0.0, 1.5 * unit)),
        (("o_proj.weight",), (0.0, 0.1 * unit)),
        (("down_proj.weight",), (0.0, 0.15 * unit)),
    ):
        if name.endswith(ends):
            return pair
    return 0.0, unit


def tensor(seed: str, name: str, shape: list[int]) -> np.ndarray:
    """f32 values in PyTorch's row-major order: offset + scale * v, v the top 24 bits of the stream as [-1, 1)."""
    bits = stream(f"{seed}/{name}", math.prod(shape)) >> np.uint64(40)
    v = bits.astype(np.float32) * np.float32(2.0**-24) * np.float32(2.0) - np.float32(1.0)
    offset, scale = (np.float32(x) for x in offset_and_scale(name, shape))
    return (offset + scale * v).reshape(shape)


def bf16(values: np.ndarray) -> np.ndarray:
    """Rounded to nearest even bf16, as f32."""
    bits = values.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)).view(np.float32)


def picture(name: str, width: int, height: int) -> np.ndarray:
    """u8 [height, width, 3]: a slope of its own in every channel, and noise over the whole picture."""
    noise = (stream(name, height * width * 3) >> np.uint64(57)).astype(np.int64).reshape(height, width, 3)
    y, x, channel = np.ogrid[:height, :width, :3]
    slope = (x * (channel + 1) * 131 // width + y * (3 - channel) * 67 // height) % 192
    return np.minimum(slope + noise, 255).astype(np.uint8)


def sample_positions(name: str, length: int, count: int) -> np.ndarray:
    """Where a node is sampled: everywhere if it is short, else `count` places out of its stream."""
    if length <= count:
        return np.arange(length)
    return (stream(f"samples/{name}", count) % np.uint64(length)).astype(np.int64)


def projection(name: str, flat: np.ndarray) -> float:
    """The node against pseudo-random signs, over sqrt(length): sees what the samples miss."""
    signs = np.where(stream(f"signs/{name}", flat.size) >> np.uint64(63), -1.0, 1.0)
    return float(np.dot(signs, flat.astype(np.float64)) / math.sqrt(flat.size))
