"""An exported pair in llama.cpp, beside the model file that it came from.

    owlet export MODEL.gguf --llama-cpp -o PAIR
    cargo build --release --example interchange
    python tests/interchange/compare.py MODEL.gguf PAIR [--picture PICTURE]

Needs Python 3.11 with llama-cpp-python 0.3.36 (whose libraries may lie elsewhere: LLAMA_CPP_LIB_PATH and, for --picture,
MTMD_CPP_LIB name their directory), numpy, jinja2 and pillow.

Asked of the text half: that it loads; that its chat template and its tokenizer make the ids that owlet makes; that greedy
decoding, with keys and values in f32, says the same tokens. Any difference is a failure, but for the ids of later turns where
the model was trained without a space behind special tokens, which is said and not counted. The model file has to be one in f32:
before products of other weights llama.cpp rounds activations, so words part sooner or later.

Asked of the vision half, with --picture: how far its rows for a picture of the tower's own size (which nobody has to
resize) are from owlet's, row by row, in order and with llama.cpp's shift by one. This is measured, not judged.
"""

import argparse
import contextlib
import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import jinja2
import llama_cpp
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
N_STEPS = 48
CONVERSATIONS = [
    ["What colour is the circle?"],
    ["How many squares are there?"],
    ["图里有什么？"],
    ["Read the text: \"B52\" \\ {{ x }}\nand say it."],
    ["What is this?", "a red circle", "Where is it?"],
]


def owlet(arguments, text=""):
    program = ROOT / "target/release/examples/interchange"
    done = subprocess.run([program, *arguments], input=text, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return done.stdout


def greedy(model, ids):
    model.reset()
    model.eval(ids)
    said = []
    for _ in range(N_STEPS):
        logits = llama_cpp.llama_get_logits_ith(model.ctx, -1)
        said.append(int(np.argmax(np.ctypeslib.as_array(logits, (model.n_vocab(),)))))
        model.eval(said[-1:])
    return said


def compare_text(path, source):
    f32 = 0
    model = llama_cpp.Llama(str(path), n_ctx=0, n_gpu_layers=0, type_k=f32, type_v=f32, flash_attn=False, verbose=False)
    environment = jinja2.Environment(keep_trailing_newline=True)
    template = environment.from_string(model.metadata["tokenizer.chat_template"])
    is_legacy = model.metadata["owlet.tokenizer.legacy"] == "true"
    lines = owlet(["tokens", source, str(N_STEPS)], json.dumps(CONVERSATIONS)).splitlines()
    n_wrong = 0
    for turns, line in zip(CONVERSATIONS, lines, strict=True):
        expected = json.loads(line)
        roles = ["user", "assistant"]
        messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(turns)]
        text = template.render(messages=messages)
        ids = model.tokenize(text.encode(), add_bos=True, special=True)
        said = greedy(model, expected["ids"])
        same_ids, same_tokens = ids == expected["ids"], said == expected["greedy"]
        excused = not same_ids and not is_legacy and len(turns) > 1
        n_same = next((n for n, (a, b) in enumerate(zip(said, expected["greedy"])) if a != b), N_STEPS)
        word = "the same" if same_ids else "others, as the statement says" if excused else "OTHERS"
        print(f"{len(expected['ids']):4} ids {word}; {n_same} of {N_STEPS} greedy tokens the same: {turns[-1]!r}")
        n_wrong += not (same_tokens and (same_ids or excused))
    return n_wrong, model


def compare_picture(path, model, source, picture):
    from PIL import Image
    from llama_cpp import mtmd_cpp as mtmd

    rgb = Image.open(picture).convert("RGB")
    out = Path(path).with_suffix(".f32")
    owlet(["rows", source, picture, str(out)])
    ours = np.fromfile(out, np.float32)
    out.unlink()

    parameters = mtmd.mtmd_context_params_default()
    parameters.use_gpu = False
    parameters.n_threads = 2
    # rows as a graph of plain products has them
    parameters.flash_attn_type = 0
    with silent():
        context = mtmd.mtmd_init_from_file(str(path).encode(), model.model, parameters)
    if not context:
        sys.exit(f"{path}: llama.cpp does not load it")
    data = (ctypes.c_uint8 * (3 * rgb.width * rgb.height)).from_buffer_copy(rgb.tobytes())
    bitmap = mtmd.mtmd_bitmap_init(rgb.width, rgb.height, data)
    chunks = mtmd.mtmd_input_chunks_init()
    marker = mtmd.mtmd_default_marker()
    text = mtmd.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=True)
    bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
    assert mtmd.mtmd_tokenize(context, chunks, ctypes.byref(text), bitmaps, 1) == 0
    for at in range(mtmd.mtmd_input_chunks_size(chunks)):
        chunk = mtmd.mtmd_input_chunks_get(chunks, at)
        if mtmd.mtmd_input_chunk_get_type(chunk) != mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE:
            continue
        with silent():
            assert mtmd.mtmd_encode_chunk(context, chunk) == 0
        n_rows = mtmd.mtmd_input_chunk_get_n_tokens(chunk)
        found = np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(context), (n_rows, model.n_embd())).copy()
        ours = ours.reshape(-1, model.n_embd())
        print(f"picture: {n_rows} rows of llama.cpp, {len(ours)} of owlet")
        report("in order", found, ours)
        report("shifted by one", found[:-1], ours[1:])
        return
    sys.exit("llama.cpp sees no picture")


@contextlib.contextmanager
def silent():
    """Without what C writes to standard error."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
        yield
        os.dup2(kept, 2)
    os.close(kept)


def report(what, found, ours):
    if found.shape != ours.shape:
        return print(f"  {what}: not comparable")
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(ours, axis=1)
    cosines = (found * ours).sum(axis=1) / norms
    error = np.abs(found - ours).max() / np.sqrt((ours**2).mean())
    print(f"  {what}: cosine of a row {cosines.mean():.6f} on average, {cosines.min():.6f} at least; max error {error:.2e} of rms")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("pair", type=Path)
    parser.add_argument("--picture")
    arguments = parser.parse_args()
    stem = Path(arguments.model).stem
    n_wrong, model = compare_text(arguments.pair / f"text-{stem}.gguf", arguments.model)
    if arguments.picture:
        compare_picture(arguments.pair / f"mmproj-{stem}.gguf", model, arguments.model, arguments.picture)
    if n_wrong:
        sys.exit(f"{n_wrong} of {len(CONVERSATIONS)} conversations differ")


if __name__ == "__main__":
    main()
