"""The words of the tiny model, its chat template, and how likely it says what."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import NamedTuple

__all__ = [
    "BOS",
    "CHAT_TEMPLATE",
    "CONTROL",
    "EOS",
    "SAMPLED_LOGIT_STD",
    "SPACE",
    "USER",
    "Kind",
    "Piece",
    "biases",
    "merges",
    "spoken",
    "vocabulary",
]

SPACE = "\u2581"
"""SentencePiece's stand-in for a blank."""

WORDS = """the of and to in is it you that he was for on are with as his they be at one
have this from or had by hot but some what there we can out other were all your when up
use word how said an each she which do their time if will way about many then them would
write like so these her long make thing see him two has look more day could go come did
my sound no most number who over know water than call first people may down side been now
find any new work part take get place made live where after back little only round man
year came show every good me give our under name very through just form much great think
say help low line before turn cause same mean differ move right boy old too does tell
gateway model stream token node queue router server client request answer fleet health
café naïve straße Ωmega 日本 привет 🙂""".split()  # noqa: SIM905 - a table of words reads better than a list

SAID = [f"{SPACE}{text}" for text in ("end.\n", "then:\n\n", '"quoted"', "a\\b", "data:", "[DONE]")]
"""Said but never read: what an SSE proxy must not trip over. Newlines come only so, or JSON under a
grammar would be all newlines."""

BOS, EOS = "<s>", "<|im_end|>"
CONTROL = (BOS, "</s>", "<|im_start|>", EOS)
USER = ("<tool_call>", "</tool_call>")  # ids 5 and 6

# ChatML with tools as Hermes and Qwen write them, so that servers take their tool-call paths.
CHAT_TEMPLATE = (
    "{%- if tools %}{{ '<|im_start|>system\\n<tools>' }}"
    "{% for t in tools %}{{ t | tojson }}{% endfor %}"
    "{{ '</tools>\\nFor each call answer "
    '<tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>\\n\' }}{% endif %}\n'
    "{%- for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}\n"
    "{%- if m['content'] is string %}{{ m['content'] }}\n"
    "{%- elif m['content'] %}{% for p in m['content'] %}"
    "{% if p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}{% endif %}\n"
    "{%- for c in m['tool_calls'] or [] %}"
    "{{ '<tool_call>{\"name\": \"' + c['function']['name'] + '\", \"arguments\": ' }}\n"
    "{%- if c['function']['arguments'] is string %}{{ c['function']['arguments'] }}"
    "{% else %}{{ c['function']['arguments'] | tojson }}{% endif %}"
    "{{ '}</tool_call>' }}{% endfor %}\n"
    "{{- '<|im_end|>\\n' }}{% endfor %}\n"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

SAMPLED_LOGIT_STD = 1.5
"""How far apart the words' logits lie."""


class Kind(StrEnum):
    """GGUF's types of tokens."""

    UNKNOWN = "unknown"
    NORMAL = "normal"
    CONTROL = "control"
    USER = "user"
    BYTE = "byte"


class Piece(NamedTuple):
    """A token."""

    text: str
    score: float
    kind: Kind


def vocabulary() -> list[Piece]:
    """The tokens in the order of their ids."""
    pieces = [Piece("<unk>", 0.0, Kind.UNKNOWN)]
    pieces += [Piece(text, 0.0, Kind.CONTROL) for text in CONTROL]
    pieces += [Piece(text, 0.0, Kind.USER) for text in USER]
    pieces += [Piece(f"<0x{byte:02X}>", 0.0, Kind.BYTE) for byte in range(256)]
    known = {piece.text for piece in pieces}

    def add(text: str, score: float) -> bool:
        if text in known:
            return False
        known.add(text)
        pieces.append(Piece(text, score, Kind.NORMAL))
        return True

    for char in (SPACE, "\n", *map(chr, range(0x21, 0x7F)), *"".join(WORDS)):
        add(char, -1e4)
    # SentencePiece reaches " the" only by way of " t" and " th".
    merges = 0
    for word in WORDS:
        for end in range(1, len(word) + 1):
            merges += add(SPACE + word[:end], -float(merges + 1))
    for text in SAID:
        add(text, -1e5)
    return pieces


def merges() -> list[tuple[str, str]]:
    """The pairs that byte-pair encoding joins to build the words, in their order."""
    pairs = [
        (SPACE + word[: end - 1], word[end - 1])
        for word in WORDS
        for end in range(1, len(word) + 1)
    ]
    return list(dict.fromkeys(pairs))


def spoken(pieces: list[Piece]) -> list[bool]:
    """Which tokens are whole words: they get a random logit."""
    words = {SPACE + word for word in WORDS} | set(SAID)
    return [piece.text in words for piece in pieces]


def biases(pieces: list[Piece], mean_tokens: float) -> list[float]:
    """The logit each token gets on top of its random one; sampled at temperature 1 an answer ends
    after about ``mean_tokens``."""
    words = len(set(WORDS)) + len(SAID)
    log_mass = math.log(words) + SAMPLED_LOGIT_STD**2 / 2
    bias = {EOS: log_mass - math.log(mean_tokens), '"': log_mass - math.log(48)}
    # JSON's own characters: rare in free text, likely under a grammar, closing before going on.
    bias |= dict.fromkeys("}]", log_mass - 5) | dict.fromkeys("{[:0123456789", log_mass - 6)
    bias |= {"</tool_call>": log_mass - 7.5, ",": log_mass - 8}
    bias |= dict.fromkeys("abcdefghijklmnopqrstuvwxyz", -10.0)
    return [
        bias.get(piece.text, 0.0 if word else -20.0)
        for piece, word in zip(pieces, spoken(pieces), strict=True)
    ]
