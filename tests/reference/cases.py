"""The parity cases: what lies in each tiny checkpoint beside its weights, and what is asked of it.

The shapes keep V1-1's proportions where a rule hangs on them: blocks that select_layer leaves unused, vision rows
that 32 divides and 256 does not, a vocabulary with 13 added tokens.
"""

import copy
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

N_PIECES = 640
ADDED = [
    "<human>", "<bot>", "<img>", "</img>", "<vid>", "</vid>", "<box>", "</box>", "<ref>", "</ref>",
    "<IMG_CONTEXT>", "<quad>", "</quad>",
]  # fmt: skip
PICTURE = {"name": "parity", "width": 150, "height": 90}


@dataclass
class Case:
    name: str
    about: str
    seed: str
    top: dict = field(default_factory=dict)
    vision: dict = field(default_factory=dict)
    llm: dict = field(default_factory=dict)
    legacy: bool | None = True
    bf16: bool = False
    conversations: tuple = ("picture",)
    vocabulary: "Vocabulary | None" = None

    @property
    def tokenizer(self) -> str:
        return self.vocabulary.model if self.vocabulary else "tokenizer.model"

    def files(self) -> dict:
        config = copy.deepcopy(CONFIG)
        config.update(self.top)
        config["vision_config"].update(self.vision)
        config["llm_config"].update(self.llm)
        tokenizer = copy.deepcopy(TOKENIZER_CONFIG)
        if self.legacy is not None:
            tokenizer["legacy"] = self.legacy
        if self.vocabulary:
            config["llm_config"]["vocab_size"] = N_PIECES + len(self.vocabulary.added)
            return {"config.json": config, "preprocessor_config.json": PREPROCESSOR} | self.vocabulary.files()
        return {
            "config.json": config,
            "tokenizer_config.json": tokenizer,
            "added_tokens.json": {token: N_PIECES + i for i, token in enumerate(ADDED)},
            "special_tokens_map.json": SPECIAL_TOKENS,
            "preprocessor_config.json": PREPROCESSOR,
        }

    def lay_out(self, folder: Path, models: Path):
        """The checkpoint's small files, as the model's own code wants to find them."""
        for name, value in self.files().items():
            (folder / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
        shutil.copy(models / self.tokenizer, folder / "tokenizer.model")


@dataclass
class Vocabulary:
    """A tokenizer of another build than V1-1's: a SentencePiece model, and what the files say of it."""

    model: str
    added: list
    pieces: dict  # pieces of the model that the files call special, with their ids
    settings: dict

    def files(self) -> dict:
        special = {t: i for t, i in [*self.pieces.items(), *((t, N_PIECES + i) for i, t in enumerate(self.added))]}
        named = ("bos_token", "eos_token", "pad_token", "unk_token")
        decoder = {
            str(i): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
            for t, i in special.items()
        }
        others = [t for t in special if t not in self.settings.values()]
        return {
            "tokenizer_config.json": TOKENIZER_CONFIG
            | {"added_tokens_decoder": decoder, "additional_special_tokens": others}
            | self.settings,
            "added_tokens.json": {t: N_PIECES + i for i, t in enumerate(self.added)},
            "special_tokens_map.json": {"additional_special_tokens": others}
            | {key: value for key, value in self.settings.items() if key in named},
        }


CONFIG = {
    "architectures": ["InternVLChatModel"],
    "model_type": "internvl_chat",
    "downsample_ratio": 0.5,
    "dynamic_image_size": False,
    "force_image_size": 112,
    "pad2square": False,
    "ps_version": "v1",
    "select_layer": -4,
    "system_message": "",
    "template": "internvl_zh",
    "use_backbone_lora": 0,
    "use_llm_lora": 0,
    "use_thumbnail": False,
    "llm_config": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 256,
        "intermediate_size": 512,
        "max_position_embeddings": 512,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 4,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-5,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "vocab_size": N_PIECES + len(ADDED),
    },
    "vision_config": {
        "architectures": ["InternVisionModel"],
        "model_type": "intern_vit_6b",
        "attention_dropout": 0.0,
        "drop_path_rate": 0.0,
        "dropout": 0.0,
        "hidden_act": "gelu",
        "hidden_size": 96,
        "image_size": 112,
        "initializer_factor": 0.1,
        "intermediate_size": 384,
        "layer_norm_eps": 1e-6,
        "num_attention_heads": 3,
        "num_channels": 3,
        "num_hidden_layers": 6,
        "patch_size": 14,
        "qk_normalization": True,
        "qkv_bias": False,
        "use_flash_attn": True,
    },
}
SPECIAL_TOKENS = {
    "additional_special_tokens": ADDED,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<unk>",
    "unk_token": "<unk>",
}
TOKENIZER_CONFIG = {
    "add_bos_token": True,
    "add_eos_token": False,
    "added_tokens_decoder": {
        str(i): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
        for i, t in [*enumerate(["<unk>", "<s>", "</s>"]), *enumerate(ADDED, N_PIECES)]
    },
    "additional_special_tokens": ADDED,
    "bos_token": "<s>",
    "clean_up_tokenization_spaces": False,
    "eos_token": "</s>",
    "model_max_length": 512,
    "pad_token": "<unk>",
    "sp_model_kwargs": {},
    "tokenizer_class": "LlamaTokenizer",
    "unk_token": "<unk>",
}
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

# As in Nous-Hermes-2-Yi-34B with InternVL's tokens: `<|im_start|>` is a piece that the files don't call special.
YI = Vocabulary(
    "tokenizer_yi.model",
    ["<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>"],
    {"<unk>": 0, "<|startoftext|>": 1, "<|endoftext|>": 2, "<|im_end|>": 7, "<img>": 9, "</img>": 10},
    {"bos_token": "<|startoftext|>", "eos_token": "<|im_end|>", "pad_token": "<unk>", "unk_token": "<unk>",
     "add_bos_token": False, "legacy": True},
)  # fmt: skip
# A vocabulary with a dummy prefix, to which all of the tokens were added.
CHATML = Vocabulary(
    "tokenizer.model",
    ["<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>"],
    {"<unk>": 0, "<s>": 1, "</s>": 2},
    {"bos_token": "<s>", "eos_token": "<|im_end|>", "pad_token": "<unk>", "unk_token": "<unk>",
     "add_bos_token": True, "legacy": True},
)  # fmt: skip
V1_2 = {"template": "Hermes-2", "select_layer": -1, "system_message": "Answer the questions."}

CASES = [
    Case("base", "select_layer -4 of 6 blocks, shuffle v1, legacy tokenizer", "base-27", conversations=("picture", "text", "turns")),
    Case("shuffle_v2", "shuffle v2; no `legacy` in tokenizer_config.json", "shuffle_v2-13", top={"ps_version": "v2"}, legacy=None),
    Case("grid", "position grid stored 4x4, used 8x8", "grid-7", vision={"image_size": 56}),
    Case("not_legacy", "tokenizer with legacy false", "not_legacy-27", legacy=False, conversations=("picture", "turns")),
    Case("bf16", "weights rounded to bf16", "bf16-15", bf16=True),
    Case("gqa", "two query heads a key head, three layers, eps 3e-5, theta 50000", "gqa-4",
         llm={"num_key_value_heads": 2, "num_hidden_layers": 3, "rms_norm_eps": 3e-5, "rope_theta": 50000.0}),
    Case("v1_2", "V1-2: all blocks, Hermes-2, Yi's tokenizer, seven query heads a key head", "v1_2-4", top=V1_2, vocabulary=YI,
         vision={"num_hidden_layers": 3, "norm_type": "rms_norm"}, conversations=("picture", "text", "turns"),
         llm={"hidden_size": 448, "num_attention_heads": 14, "num_key_value_heads": 2, "rope_theta": 5000000.0}),
    Case("v1_2_added", "the same template over a vocabulary with a dummy prefix", "v1_2_added-11", top=V1_2, vocabulary=CHATML,
         vision={"num_hidden_layers": 3}, conversations=("picture", "turns"), llm={"num_key_value_heads": 2}),
]  # fmt: skip

QUESTION = "What is in the picture? 图里有什么？"
FOLLOW_UP = "How many triangles are there?"
