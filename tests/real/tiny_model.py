"""A tiny, randomly initialised Llama model that real engines load: nothing is downloaded.

``python -m tests.real.tiny_model FILE`` writes it. The same shape and seed give the same bytes.

It says random words, some of them not ASCII, and now and then quotes, newlines, ``data:`` and
``[DONE]``. Sampled at temperature 1 it ends by itself after about ``mean_tokens`` (``stop``);
greedy it runs to the limit (``length``). Under a JSON grammar numbers, booleans and enums close by
themselves. llama-server lets a model talk before it calls a tool, and this one would talk for ever:
``TOOL_CALL_BIAS`` with ``tool_choice: required`` makes it call once, at once.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np

from tests.real.tiny_vocabulary import (
    BOS,
    CHAT_TEMPLATE,
    EOS,
    SAMPLED_LOGIT_STD,
    Kind,
    Piece,
    biases,
    spoken,
    vocabulary,
)

__all__ = ["TINY_NAME", "TOOL_CALL_BIAS", "Matrix", "Shape", "weights", "write_model"]

TINY_NAME = "nexus-tiny"
TOOL_CALL_BIAS = {"5": 50, "4": 100}
"""``logit_bias``: token 5 begins a tool call, token 4 ends the answer."""

_ANCHOR = 4.0
"""Every embedding's element 0, which lets element 0 of an output row act as a bias."""

Matrix = Any  # numpy's arrays, whose shapes no type here would tell


class Shape(NamedTuple):
    """How big the model is. ``dim`` is a multiple of 32. ``chats``: it has a chat template."""

    layers: int = 2
    dim: int = 64
    ffn: int = 128
    heads: int = 2
    kv_heads: int = 1
    context: int = 4096
    mean_tokens: float = 64
    seed: int = 0
    chats: bool = True


def write_model(path: Path, shape: Shape | None = None) -> None:
    """Writes the model as GGUF; ``path`` appears when it is whole."""
    shape = shape or Shape()
    part = path.with_name(f"{path.name}.part")
    pieces = vocabulary()
    writer = gguf.GGUFWriter(str(part), "llama")
    _describe(writer, pieces, shape)
    for name, matrix in weights(pieces, shape).items():
        stored = matrix.astype(np.float16) if matrix.ndim == 2 else matrix
        if name.endswith("attn_q"):
            stored = _interleaved(stored, shape.heads)
        elif name.endswith("attn_k"):
            stored = _interleaved(stored, shape.kv_heads)
        writer.add_tensor(f"{name}.weight", stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(path)


def _describe(writer: gguf.GGUFWriter, pieces: list[Piece], shape: Shape) -> None:
    types = {
        Kind.UNKNOWN: gguf.TokenType.UNKNOWN,
        Kind.NORMAL: gguf.TokenType.NORMAL,
        Kind.CONTROL: gguf.TokenType.CONTROL,
        Kind.USER: gguf.TokenType.USER_DEFINED,
        Kind.BYTE: gguf.TokenType.BYTE,
    }
    ids = {piece.text: number for number, piece in enumerate(pieces)}
    writer.add_name(TINY_NAME)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.dim)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.dim // shape.heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(pieces))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece.text for piece in pieces])
    writer.add_token_scores([piece.score for piece in pieces])
    writer.add_token_types([types[piece.kind] for piece in pieces])
    writer.add_bos_token_id(ids[BOS])
    writer.add_eos_token_id(ids[EOS])
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    # A space after "<|im_start|>" would break llama-server's grammars: they start with the
    # prompt's tail.
    writer.add_add_space_prefix(False)
    if shape.chats:
        writer.add_chat_template(CHAT_TEMPLATE)


def weights(pieces: list[Piece], shape: Shape) -> dict[str, Matrix]:
    """GGUF's tensor names → float32 arrays, in Hugging Face's rotary order."""
    rng = np.random.default_rng(shape.seed)
    dim = shape.dim
    kv_dim = shape.kv_heads * (dim // shape.heads)

    def matrix(rows: int, columns: int) -> Matrix:
        return rng.normal(0, 1 / math.sqrt(columns), (rows, columns)).astype(np.float32)

    embeddings = rng.normal(0, 1, (len(pieces), dim)).astype(np.float32)
    embeddings[:, 0] = _ANCHOR
    tensors: dict[str, Matrix] = {"token_embd": embeddings}
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        tensors[f"{block}attn_norm"] = np.ones(dim, np.float32)
        tensors[f"{block}attn_q"] = matrix(dim, dim)
        tensors[f"{block}attn_k"] = matrix(kv_dim, dim)
        tensors[f"{block}attn_v"] = matrix(kv_dim, dim)
        tensors[f"{block}attn_output"] = matrix(dim, dim)
        tensors[f"{block}ffn_norm"] = np.ones(dim, np.float32)
        tensors[f"{block}ffn_gate"] = matrix(shape.ffn, dim)
        tensors[f"{block}ffn_up"] = matrix(shape.ffn, dim)
        tensors[f"{block}ffn_down"] = matrix(dim, shape.ffn)
        tensors[f"{block}attn_output"][0] = 0  # nothing moves the anchor
        tensors[f"{block}ffn_down"][0] = 0
    tensors["output_norm"] = np.ones(dim, np.float32)
    anchor_after_norm = _ANCHOR / math.sqrt((_ANCHOR**2 + (dim - 1) * 1.8) / dim)
    is_word = np.array(spoken(pieces))
    output = np.zeros((len(pieces), dim), np.float32)
    deviation = SAMPLED_LOGIT_STD / math.sqrt(dim - 1)
    output[is_word, 1:] = rng.normal(0, deviation, (int(is_word.sum()), dim - 1))
    output[:, 0] = np.array(biases(pieces, shape.mean_tokens)) / anchor_after_norm
    tensors["output"] = output
    return tensors


def _interleaved(matrix: Matrix, heads: int) -> Matrix:
    """GGUF's rotary order, from the halves in which Hugging Face's weights come."""
    columns = matrix.shape[1]
    return matrix.reshape(heads, 2, -1, columns).swapaxes(1, 2).reshape(matrix.shape)


if __name__ == "__main__":
    write_model(Path(sys.argv[1]))
