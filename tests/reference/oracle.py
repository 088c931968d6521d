"""The models' own PyTorch code on a formula checkpoint, in f32 on the CPU, with its named nodes in hand.

Comes in: the path of an InternVL checkout and a case's files. Goes out: pixels, nodes, greedy tokens, answers.
Nothing of the foreign code is copied or edited: nodes are read by forward hooks, wrong variants are patched in
from outside and taken back.
"""

import contextlib
import json
import sys
import types
from pathlib import Path
from unittest import mock

import numpy as np
import torch

import formula
from nodes import chosen, first_input, reading

NOT_NEEDED = ("cv2", "decord", "imageio")  # imported by InternVL's dataset.py, not used by what we call


def use_checkout(internvl: Path):
    """Makes `internvl.*` importable; call it once, before anything else here."""
    assert (internvl / "internvl_chat/internvl/conversation.py").exists(), f"{internvl} is no InternVL checkout"
    sys.path.insert(0, str(internvl / "internvl_chat"))
    import internvl.model.internvl_chat  # noqa: F401 (transformers asks which packages there are: before the stand-ins)

    for absent in NOT_NEEDED:
        sys.modules.setdefault(absent, mock.MagicMock())
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)


class Oracle:
    """InternVLChatModel with weights from the formula, and the slow LlamaTokenizer on the case's files."""

    def __init__(self, seed: str, folder: Path, bf16: bool = False):
        from internvl.model.internvl_chat import InternVLChatConfig, InternVLChatModel
        from transformers import LlamaTokenizer

        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.config = InternVLChatConfig(**config)
        self.config.llm_config._attn_implementation = "eager"
        self.model = InternVLChatModel(self.config, use_flash_attn=False).float().eval()
        state = {}
        for name, old in self.model.state_dict().items():
            values = formula.tensor(seed, name, list(old.shape))
            state[name] = torch.from_numpy(formula.bf16(values) if bf16 else values)
        self.model.load_state_dict(state, strict=True)
        self.tensors = {name: values.numpy() for name, values in state.items()}
        self.tokenizer = LlamaTokenizer.from_pretrained(str(folder), add_eos_token=False)
        self.model.img_context_token_id = self.tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")

    @property
    def side(self) -> int:
        return self.config.force_image_size or self.config.vision_config.image_size

    def pixels(self, rgb: np.ndarray) -> torch.Tensor:
        """[1, 3, side, side], as InternVL's evaluations make them."""
        from internvl.train.dataset import build_transform
        from PIL import Image

        return build_transform(is_train=False, input_size=self.side)(Image.fromarray(rgb))[None]

    def prompt(self, question: str, history=(), n_pictures: int = 1) -> str:
        """The string that `chat` hands to the tokenizer."""
        said = []

        class Stop(Exception):
            pass

        def listen(text, **_):
            said.append(text)
            raise Stop

        with contextlib.suppress(Stop):
            tokenizer = types.SimpleNamespace(convert_tokens_to_ids=self.tokenizer.convert_tokens_to_ids)
            tokenizer = mock.MagicMock(wraps=tokenizer, side_effect=listen)
            pixels = torch.zeros(n_pictures, 3, self.side, self.side) if n_pictures else None
            self.model.chat(tokenizer, pixels, question, {}, history=list(history) or None, num_patches_list=[1] * n_pictures)
        return said[0]

    def ids(self, prompt: str) -> list[int]:
        return self.tokenizer(prompt)["input_ids"]

    def shown(self, ids: list[int]) -> list[int]:
        return ids

    def written(self, prompt: str) -> str:
        """A picture's place once."""
        return prompt.replace("<IMG_CONTEXT>" * self.model.num_image_token, "<IMG_CONTEXT>*")

    def nodes(self, ids: list[int], pixels) -> dict[str, np.ndarray]:
        """One forward pass over the whole prompt; every node with ggml's innermost axis last."""
        with reading() as (seen, hook):
            tower, llama = self.model.vision_model, self.model.language_model
            n_run = self.n_blocks_run
            hook("patch_embd", tower.embeddings.patch_embedding, lambda _, out: out.flatten(2).transpose(1, 2))
            hook("pos_embd", tower.embeddings)
            for il, block in enumerate(tower.encoder.layers[:n_run]):
                hook(f"v.blk.{il}.attn_q", block.attn.q_norm)
                hook(f"v.blk.{il}.attn_k", block.attn.k_norm)
                hook(f"v.blk.{il}.attn_out", block.attn)
                hook(f"v.blk.{il}.out", block)
            hook("v.out", tower.encoder, lambda _, out: self.selected(out)[:, 1:])
            hook("shuffle", self.model.mlp1, first_input)
            hook("mm.0", self.model.mlp1[0])
            hook("mm.1", self.model.mlp1[1])
            hook("mm.2", self.model.mlp1[2])
            hook("mm.out", self.model.mlp1)
            hook("inp_embd", llama.model.layers[0], first_input)
            for il, layer in enumerate(llama.model.layers):
                hook(f"blk.{il}.attn_out", layer.self_attn)
                hook(f"blk.{il}.out", layer)
            hook("output_norm", llama.model.norm)
            hook("logits", llama.lm_head)
            tokens = torch.tensor([ids])
            if pixels is None:
                llama(input_ids=tokens)
            else:
                self.model(pixel_values=pixels, input_ids=tokens, image_flags=torch.ones(len(pixels), 1))
        order = ["patch_embd", "pos_embd"]
        order += [f"v.blk.{il}.{what}" for il in range(n_run) for what in ("attn_q", "attn_k", "attn_out", "out")]
        order += ["v.out", "shuffle", "mm.0", "mm.1", "mm.2", "mm.out", "inp_embd"]
        order += [f"blk.{il}.{what}" for il in range(len(llama.model.layers)) for what in ("attn_out", "out")]
        order += ["output_norm", "logits"]
        return {name: seen[name] for name in order if name in seen}

    def selected(self, out):
        """What the model takes of the encoder's output, which has no hidden states where it wants the last one."""
        return out.last_hidden_state if self.model.select_layer == -1 else out.hidden_states[self.model.select_layer]

    @property
    def n_blocks_run(self) -> int:
        n_layer, select = self.config.vision_config.num_hidden_layers, self.config.select_layer
        return select if select >= 0 else n_layer + 1 + select

    def greedy(self, ids: list[int], pixels, n_steps: int) -> tuple[list[int], list[float]]:
        """By the model's own `generate`."""
        tokens = torch.tensor([ids])
        out = self.model.generate(
            pixel_values=pixels,
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=n_steps,
            do_sample=False,
            num_beams=1,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
        )
        return chosen(out)

    def answer(self, new: list[int]) -> str:
        """What `chat` makes of new tokens."""
        text = self.tokenizer.batch_decode([new], skip_special_tokens=True)[0]
        return text.split(self.model.conv_template.sep.strip())[0].strip()
