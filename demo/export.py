"""Writes a training state as a checkpoint directory in the Hugging Face layout of InternVL-Chat-V1-1.

    python demo/export.py --state STATE.pt --tokenizer TOKENIZER.model --out demo/checkpoint
"""
import argparse
import json
import os
import shutil

import torch
from safetensors.torch import load_file, save_file

import model
import vocabulary

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def config(n_vocab):
    vision = {
        "architectures": ["InternVisionModel"], "model_type": "intern_vit_6b", "hidden_size": model.V_EMBD, "num_attention_heads": model.V_HEAD,
        "num_hidden_layers": model.V_LAYERS, "intermediate_size": model.V_FF, "patch_size": model.PATCH, "num_channels": 3,
        "image_size": model.IMAGE, "qkv_bias": False, "qk_normalization": True, "layer_norm_eps": model.V_EPS, "hidden_act": "gelu",
        "norm_type": "rms_norm", "initializer_factor": model.LAYER_SCALE, "initializer_range": 0.02, "drop_path_rate": 0.0, "dropout": 0.0,
        "attention_dropout": 0.0, "use_flash_attn": False, "torch_dtype": "bfloat16"}
    text = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": model.N_EMBD, "num_hidden_layers": model.N_LAYER,
        "num_attention_heads": model.N_HEAD, "num_key_value_heads": model.N_HEAD, "intermediate_size": model.N_FF, "hidden_act": "silu",
        "rms_norm_eps": model.RMS_EPS, "rope_theta": model.ROPE, "rope_scaling": None, "max_position_embeddings": 1024, "vocab_size": n_vocab,
        "attention_bias": False, "tie_word_embeddings": False, "pretraining_tp": 1, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        "torch_dtype": "bfloat16"}
    return {
        "architectures": ["InternVLChatModel"], "model_type": "internvl_chat", "downsample_ratio": 0.5, "force_image_size": model.IMAGE,
        "select_layer": model.V_RUN - model.V_LAYERS - 1, "ps_version": "v1", "template": "internvl_zh", "system_message": "",
        "dynamic_image_size": False, "use_thumbnail": False, "pad2square": False, "min_dynamic_patch": 1, "max_dynamic_patch": 6,
        "use_backbone_lora": 0, "use_llm_lora": 0, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "vision_config": vision,
        "llm_config": text}


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=2, ensure_ascii=False)
        f.write("\n")


def export(weights, tokenizer, out):
    os.makedirs(out, exist_ok=True)
    vocab = vocabulary.Vocabulary(tokenizer)
    save_file({k: v.to(torch.bfloat16).contiguous() for k, v in weights.items()}, os.path.join(out, "model.safetensors"), {"format": "pt"})
    os.chmod(os.path.join(out, "model.safetensors"), 0o644)
    shutil.copyfile(tokenizer, os.path.join(out, "tokenizer.model"))
    special = lambda t: {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    ids = {**{"<unk>": 0, "<s>": 1, "</s>": 2}, **vocab.added}
    write_json(os.path.join(out, "config.json"), config(vocab.n_vocab))
    write_json(os.path.join(out, "added_tokens.json"), vocab.added)
    write_json(os.path.join(out, "tokenizer_config.json"), {
        "add_bos_token": True, "add_eos_token": False, "added_tokens_decoder": {str(i): {**special(t), "special": True} for t, i in ids.items()},
        "additional_special_tokens": vocabulary.ADDED, **TOKENS, "clean_up_tokenization_spaces": False, "legacy": True,
        "model_max_length": 1024, "pad_token": "<unk>", "sp_model_kwargs": {}, "spaces_between_special_tokens": False,
        "tokenizer_class": "LlamaTokenizer", "use_default_system_prompt": False})
    write_json(os.path.join(out, "special_tokens_map.json"), {
        "additional_special_tokens": vocabulary.ADDED, **{k: special(t) for k, t in TOKENS.items()}, "pad_token": special("<unk>")})
    write_json(os.path.join(out, "preprocessor_config.json"), {
        "crop_size": model.IMAGE, "do_center_crop": True, "do_normalize": True, "do_resize": True, "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": list(model.MEAN), "image_std": list(model.STD), "resample": 3, "size": model.IMAGE})
    write_json(os.path.join(out, "generation_config.json"), {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "do_sample": False})


def load(folder):
    """(network with the bf16 weights as f32, vocabulary) of a checkpoint directory."""
    vocab = vocabulary.Vocabulary(os.path.join(folder, "tokenizer.model"))
    net = model.Demo(vocab.n_vocab)
    net.load_state_dict({k: v.float() for k, v in load_file(os.path.join(folder, "model.safetensors")).items()})
    return net.eval(), vocab


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--state", required=True)
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--out", required=True)
    args = ap.parse_args()
    export(torch.load(args.state)["ema"], args.tokenizer, args.out)
    files = {f: os.path.getsize(os.path.join(args.out, f)) for f in sorted(os.listdir(args.out))}
    print(files, "together", sum(files.values()))


if __name__ == "__main__":
    main()
