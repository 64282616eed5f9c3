"""Golden files of the engine adapters; see README.md beside this file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from nexus.core.backend import EngineKind
from nexus.engines.adapter import Answer, Ask, CheckResult
from nexus.engines.fingerprint import fingerprint
from nexus.engines.table import ADAPTERS
from nexus.registry.views import model_view
from tests.captures import captured, read_capture
from tests.unit.engines.drive import run, spec

__all__ = ["CASES", "Case", "read_case", "write_case"]

FOLDER = Path(__file__).parent
CASES = sorted(path.stem for path in FOLDER.glob("*.json"))

Json = dict[str, Any]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One server: its answers, and what is expected of them. ``engine`` ``None``: only what the
    fingerprint makes of it."""

    about: str
    engine: EngineKind | None
    answers: dict[str, str]
    default: str = ""
    errors: list[str] = []
    expected: Json = {}

    def read(self) -> Json:
        """What the code makes of the answers, as plain JSON values."""
        asked: list[Ask] = []
        found = run(fingerprint(), self._answer, asked)
        seen: Json = {
            "fingerprint": {
                "engine": found.engine,
                "label": found.label,
                "reason": found.reason,
                "evidence": list(found.evidence),
                "loading": found.loading,
                "needs_key": found.needs_key,
                "nexus": found.nexus,
                "asked": [ask.path for ask in asked],
            }
        }
        if self.engine is not None:
            adapter = ADAPTERS[self.engine]
            asked = []
            backend = spec(self.engine)
            first = run(adapter.check(backend, ()), self._answer, asked)
            again: list[Ask] = []
            run(adapter.check(backend, first.models or ()), self._answer, again)
            seen["check"] = {
                **_result(first),
                "asked": [ask.path for ask in asked],
                "asked_again": [ask.path for ask in again],
            }
            polling = adapter.load()
            seen["load"] = None if polling is None else _result(run(polling, self._answer))
            seen["errors"] = {name: self._error(name) for name in self.errors}
        decoded: Json = msgspec.json.decode(msgspec.json.encode(seen))
        return decoded

    def _answer(self, ask: Ask) -> Answer:
        path = ask.path
        if ask.body is not None:
            path = f"{path} {msgspec.json.decode(ask.body)['model']}"
        found = self.answers.get(path, self.default)
        return answer_of(found) if found else Answer(status=404)

    def _error(self, name: str) -> Json:
        assert self.engine is not None
        answer = answer_of(name)
        said = ADAPTERS[self.engine].read_error(answer.status, answer.body)
        return {"status": answer.status, "means": said.meaning, "message": said.message[:160]}


def answer_of(name: str) -> Answer:
    """A captured answer, or one made by hand."""
    if not name.startswith("made/"):
        return captured(name)
    return read_capture((FOLDER / f"{name}.txt").read_bytes())


def _result(result: CheckResult) -> Json:
    figures = {
        name: value
        for name in ("engine_version", "capacity", "running", "waiting", "kv_usage", "evidence")
        if (value := getattr(result, name)) not in (None, {})
    }
    told: Json = {"health": result.health, "reason": result.reason, **figures}
    if result.models is not None:
        told["models"] = [
            model_view(model) | {"engine_name": model.engine_name, "aliases": list(model.aliases)}
            for model in result.models
        ]
    return told


def read_case(name: str) -> Case:
    """The case in ``NAME.json``."""
    return msgspec.json.decode((FOLDER / f"{name}.json").read_bytes(), type=Case)


def write_case(name: str) -> bool:
    """Writes what is expected anew; whether that changed anything."""
    path = FOLDER / f"{name}.json"
    case = read_case(name)
    case = msgspec.structs.replace(case, expected=case.read())
    raw = msgspec.json.format(msgspec.json.encode(case), indent=1) + b"\n"
    if path.read_bytes() == raw:
        return False
    path.write_bytes(raw)
    return True
