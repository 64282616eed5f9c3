"""Any server that speaks OpenAI's API and that we know nothing more about.

Also the base of ``openai.py``. Health is the model list itself: there is no other path that every
such server has, and ``/health`` costs money on some (LiteLLM calls every upstream model).
"""

from __future__ import annotations

from nexus.core.backend import BackendSpec, EngineKind, EngineTraits
from nexus.core.model import Model
from nexus.engines.adapter import Answer, Ask, Check, CheckResult, Health, UpstreamError
from nexus.engines.errors import read_openai_error
from nexus.engines.listing import first_seen, listed_entries, openai_model, served
from nexus.engines.verdict import healthy, refusal, wrong_answer

__all__ = ["MODEL_LIST", "NOT_A_LIST", "GenericAdapter", "read_listing"]

MODEL_LIST = Ask("/v1/models")
NOT_A_LIST = ("a model list", "not an OpenAI-compatible server?")

_NO_SUCH_PATH = frozenset({404, 405, 501})


def read_listing(
    answer: Answer, spec: BackendSpec, known: tuple[Model, ...]
) -> tuple[Model, ...] | CheckResult:
    """The models in an answer to ``GET /v1/models``, or the result that ends the check."""
    if answer.status in _NO_SUCH_PATH and spec.models:
        return served((), spec)  # it answers; the operator has said what it serves
    if answer.status == 429:
        # A rate limit on the list says nothing against the server: it answers, we keep the models.
        kept = known or served((), spec) or None
        return CheckResult(
            health=Health.HEALTHY, reason="rate-limited (429) when listing models", models=kept
        )
    ended = refusal(answer)
    if ended is not None:
        return ended
    found = listed_entries(answer.body)
    if found is None:
        return wrong_answer(answer, *NOT_A_LIST)
    return served(first_seen(map(openai_model, found), known), spec)


class GenericAdapter:
    """OpenAI-compatible, engine unknown."""

    kind = EngineKind.GENERIC
    # llama-cpp-python answers 400 with an empty body to an X-Request-Id that is not a UUID; ours
    # is one, a client's need not be: it stays here and the relay sends its own.
    traits = EngineTraits(dropped_headers=frozenset({b"x-request-id"}))

    def check(self, spec: BackendSpec, known: tuple[Model, ...]) -> Check:
        """One GET of the model list."""
        (answer,) = yield (MODEL_LIST,)
        models = read_listing(answer, spec, known)
        return models if isinstance(models, CheckResult) else healthy(models)

    def load(self) -> Check | None:
        """No such server tells its load in a common way."""
        return None

    def read_error(self, status: int, body: bytes) -> UpstreamError:
        """As every engine's; see ``errors.py``."""
        return read_openai_error(status, body)
