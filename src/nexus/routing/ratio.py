"""How many bytes of text make a token, learned per model from what engines report."""

from __future__ import annotations

from math import ceil

from nexus.core.call import RequestProfile
from nexus.core.ewma import Ewma

__all__ = ["Ratios"]

_START = 4.0
_LOWEST = 1.0
_HIGHEST = 8.0
_TAU_S = 600.0
_IMAGE_TOKENS = 1000

_TEACHING_BYTES_MIN = 1024
"""Below this the chat template's own tokens outweigh the text and would teach far too low."""

_MODELS_MAX = 10_000
"""Names come and go with engines' lists; beyond this many the oldest is forgotten."""


class Ratios:
    """Bytes of text per token for each model: 4 at first, then a moving average within [1, 8]."""

    __slots__ = ("_average",)

    def __init__(self) -> None:
        self._average: dict[str, Ewma] = {}

    def ratio(self, model: str) -> float:
        """Bytes per token of ``model``."""
        average = self._average.get(model)
        return _START if average is None or average.value is None else average.value

    def estimate_tokens(self, model: str, profile: RequestProfile) -> int:
        """About how many tokens the input of ``profile`` is for ``model``, rounded up."""
        tokens = profile.images * _IMAGE_TOKENS
        if profile.text_bytes:
            average = self._average.get(model)
            if average is None or average.value is None:
                return tokens + (profile.text_bytes + 3) // 4
            tokens += ceil(profile.text_bytes / average.value)
        return tokens

    def looks_truncated(self, model: str, text_bytes: int, prompt_tokens: int) -> bool:
        """Whether ``prompt_tokens`` is less than half of what ``text_bytes`` come to: on an engine
        that truncates, a prompt cut without a word (behaviour § 5.1)."""
        return text_bytes >= _TEACHING_BYTES_MIN and prompt_tokens * 2 < text_bytes / self.ratio(
            model
        )

    def learn(
        self,
        model: str,
        text_bytes: int,
        prompt_tokens: int,
        truncates: bool,
        now_s: float,
        *,
        images: int = 0,
    ) -> bool:
        """Takes in an engine's ``usage.prompt_tokens`` for ``text_bytes`` of text.

        Short prompts and prompts with images teach nothing. Neither does a count far below the
        estimate from an engine that ``truncates``: then the answer is ``True``, the prompt was
        probably cut. ``now_s`` is monotonic seconds.
        """
        if images or prompt_tokens <= 0 or text_bytes < _TEACHING_BYTES_MIN:
            return False
        if truncates and self.looks_truncated(model, text_bytes, prompt_tokens):
            return True
        average = self._average.get(model)
        if average is None:
            if len(self._average) >= _MODELS_MAX:
                del self._average[next(iter(self._average))]
            average = self._average[model] = Ewma(_TAU_S)
            average.add(_START, now_s)
        average.add(min(max(text_bytes / prompt_tokens, _LOWEST), _HIGHEST), now_s)
        return False
