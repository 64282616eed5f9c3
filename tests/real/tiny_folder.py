"""The tiny model as a Hugging Face folder, for engines that read no GGUF: the same weights, words
and template, so that every engine says the same text.

The weights' file is written by hand: a length, a JSON header and the numbers
(https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from tests.real.tiny_model import Shape, weights
from tests.real.tiny_vocabulary import (
    BOS,
    CHAT_TEMPLATE,
    CONTROL,
    EOS,
    SPACE,
    USER,
    merges,
    vocabulary,
)

__all__ = ["HUB_NAME", "write_cache", "write_folder"]

HUB_NAME = "nexus/tiny"
_REVISION = "0123456789abcdef0123456789abcdef01234567"
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def write_cache(folder: Path) -> None:
    """Writes a hub cache that holds the model as :data:`HUB_NAME`: no network is needed then."""
    home = folder / f"models--{HUB_NAME.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(_REVISION)
    write_folder(home / "snapshots" / _REVISION)


def write_folder(folder: Path, shape: Shape | None = None) -> None:
    """Writes the model's folder."""
    shape = shape or Shape()
    folder.mkdir(parents=True)
    pieces = vocabulary()
    ids = {piece.text: number for number, piece in enumerate(pieces)}
    ends = {"bos_token_id": ids[BOS], "eos_token_id": ids[EOS]}
    tensors = {_name(name): matrix for name, matrix in weights(pieces, shape).items()}
    (folder / "model.safetensors").write_bytes(_safetensors(tensors))
    documents: dict[str, dict[str, Any]] = {
        "config": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "dtype": "float16",
            "torch_dtype": "float16",
            "hidden_size": shape.dim,
            "intermediate_size": shape.ffn,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.dim // shape.heads,
            "hidden_act": "silu",
            "max_position_embeddings": shape.context,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "vocab_size": len(pieces),
            "tie_word_embeddings": False,
            **ends,
        },
        "generation_config": {**ends, "do_sample": True, "temperature": 1.0},
        "tokenizer_config": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": EOS,
            "unk_token": "<unk>",
            "pad_token": "</s>",
            "model_max_length": shape.context,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
        "tokenizer": _tokenizer(ids),
    }
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document, ensure_ascii=False))


def _name(gguf: str) -> str:
    if gguf in _OUTSIDE:
        return f"{_OUTSIDE[gguf]}.weight"
    _, layer, part = gguf.split(".")
    return f"model.layers.{layer}.{_LAYER[part]}.weight"


def _safetensors(tensors: dict[str, Any]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, matrix in tensors.items():
        numbers = matrix.astype("<f2").tobytes()
        header[name] = {
            "dtype": "F16",
            "shape": list(np.shape(matrix)),
            "data_offsets": [len(data), len(data) + len(numbers)],
        }
        data += numbers
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def _tokenizer(ids: dict[str, int]) -> dict[str, Any]:
    special = ("<unk>", *CONTROL)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": ids[text], "content": text, **flags, "special": text in special}
        for text in (*special, *USER)
    ]
    begin, text, more = (
        {"SpecialToken": {"id": BOS, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"Sequence": {"id": "B", "type_id": 0}},
    )
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, text],
            "pair": [text, more],
            "special_tokens": {BOS: {"id": BOS, "ids": [ids[BOS]], "tokens": [BOS]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": ids,
            "merges": [list(pair) for pair in merges()],
        },
    }
