"""Records which type llama.cpp's own quantizer gives each tensor of a LLaMA, and the bytes that it makes.

Comes in: nothing; models of made-up numbers are written for it. Goes out: tests/golden/convert/llama_quantize.json.
Needs `pip install cyllama gguf numpy`: cyllama carries llama.cpp's llama_model_quantize, which llama-quantize calls.
"""

import hashlib
import json
import pathlib
import tempfile

import gguf
import numpy as np
from cyllama.llama.llama_cpp import LlamaModelQuantizeParams, model_quantize

import formula

GOLDEN = pathlib.Path(__file__).parent.parent / "golden/convert/llama_quantize.json"

# llama.h: enum llama_ftype, by the names that llama-quantize takes
FTYPES = {
    "f32": 0, "f16": 1, "bf16": 32, "q8_0": 7, "q6_k": 18, "q5_k_m": 17, "q5_k_s": 16, "q5_1": 9, "q5_0": 8,
    "q4_k_m": 15, "q4_k_s": 14, "q4_1": 3, "q4_0": 2, "iq4_nl": 25, "iq4_xs": 30, "q3_k_l": 13, "q3_k_m": 12,
    "q3_k_s": 11, "q2_k": 10,
}  # fmt: skip

# deep: which types; small: which bytes, and what rows of 320 numbers become; grouped: 4 heads share keys and values
MODELS = [
    {"name": "deep", "n_layer": 40, "n_embd": 256, "n_ff": 256, "n_head": 4, "n_head_kv": 4, "n_vocab": 64},
    {"name": "shallow", "n_layer": 3, "n_embd": 256, "n_ff": 320, "n_head": 4, "n_head_kv": 4, "n_vocab": 64},
    {"name": "grouped", "n_layer": 20, "n_embd": 256, "n_ff": 256, "n_head": 8, "n_head_kv": 2, "n_vocab": 64},
    {"name": "narrow", "n_layer": 1, "n_embd": 96, "n_ff": 160, "n_head": 3, "n_head_kv": 3, "n_vocab": 64},
]
WITH_BYTES = "shallow"


def tensors(model: dict) -> dict[str, list[int]]:
    """Names and shapes, rows first."""
    n_embd, n_ff, n_vocab = model["n_embd"], model["n_ff"], model["n_vocab"]
    n_kv = n_embd // model["n_head"] * model["n_head_kv"]
    found = {"token_embd.weight": [n_vocab, n_embd]}
    for il in range(model["n_layer"]):
        for name, shape in {
            "attn_norm": [n_embd], "attn_q": [n_embd, n_embd], "attn_k": [n_kv, n_embd], "attn_v": [n_kv, n_embd],
            "attn_output": [n_embd, n_embd], "ffn_norm": [n_embd], "ffn_gate": [n_ff, n_embd],
            "ffn_up": [n_ff, n_embd], "ffn_down": [n_embd, n_ff],
        }.items():  # fmt: skip
            found[f"blk.{il}.{name}.weight"] = shape
    return found | {"output_norm.weight": [n_embd], "output.weight": [n_vocab, n_embd]}


def write(model: dict, path: pathlib.Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(model["n_embd"])
    writer.add_block_count(model["n_layer"])
    writer.add_feed_forward_length(model["n_ff"])
    writer.add_head_count(model["n_head"])
    writer.add_head_count_kv(model["n_head_kv"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(model["n_embd"] // model["n_head"])
    writer.add_vocab_size(model["n_vocab"])
    for name, shape in tensors(model).items():
        writer.add_tensor(name, formula.tensor(model["name"], name, shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantized(source: pathlib.Path, ftype: int, out: pathlib.Path, with_bytes: bool) -> dict:
    params = LlamaModelQuantizeParams()
    params.ftype, params.nthread = ftype, 2
    model_quantize(str(source), str(out), params)
    found = {}
    for tensor in gguf.GGUFReader(out).tensors:
        dtype = tensor.tensor_type.name.lower()
        digest = hashlib.sha256(np.ascontiguousarray(tensor.data).tobytes()).hexdigest()
        found[tensor.name] = [dtype, digest] if with_bytes else dtype
    return dict(sorted(found.items()))


def main() -> None:
    recorded = []
    with tempfile.TemporaryDirectory() as folder:
        source, out = pathlib.Path(folder, "source.gguf"), pathlib.Path(folder, "out.gguf")
        for model in MODELS:
            write(model, source)
            types = {
                name: quantized(source, ftype, out, model["name"] == WITH_BYTES) for name, ftype in FTYPES.items()
            }
            if model["name"] != WITH_BYTES:
                # what most tensors of a file have is said once
                for name, by_tensor in types.items():
                    common = max(set(by_tensor.values()), key=list(by_tensor.values()).count)
                    others = {tensor: dtype for tensor, dtype in by_tensor.items() if dtype != common}
                    types[name] = {"*": common} | {t: d for t, d in others.items() if "norm" not in t}
            recorded.append(model | {"types": types})
    GOLDEN.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
