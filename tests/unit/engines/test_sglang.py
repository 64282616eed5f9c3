"""SGLang's adapter, against answers made after its source (0.5.23)."""

from __future__ import annotations

from nexus.core.model import ModelKind
from nexus.engines.adapter import Answer, Ask, CheckResult, ErrorMeaning, Health
from nexus.engines.sglang import SglangAdapter
from tests.unit.engines.drive import Script, by_id, check, json_answer, run

LIST = json_answer(
    {"object": "list", "data": [{"id": "m", "owned_by": "sglang", "max_model_len": 4096}]}
)
INFO = {"model_path": "p", "is_generation": True, "has_image_understanding": True}
LOADS = {
    "version": "0.5.23",
    "loads": [
        {"dp_rank": 0, "num_running_reqs": 2, "num_waiting_reqs": 1, "max_running_requests": 8},
        {"dp_rank": 1, "num_running_reqs": 3, "num_waiting_reqs": 0, "max_running_requests": 8},
    ],
}
SERVER = {
    "/v1/models": LIST,
    "/model_info": json_answer(INFO),
    "/ready": Answer(status=200),
    "/v1/loads?include=core": json_answer(LOADS),
}


def load(script: Script) -> CheckResult:
    """One load poll."""
    polling = SglangAdapter().load()
    assert polling is not None
    return run(polling, script)


def test_list_information_and_load_make_the_picture() -> None:
    """Window, abilities, version, and load summed over ranks."""
    result = check("sglang", SERVER)
    assert (result.health, result.engine_version) == (Health.HEALTHY, "0.5.23")
    assert (result.running, result.waiting, result.capacity) == (5, 1, 16)
    model = by_id(result)["m"]
    assert (model.context_length, model.capabilities.vision) == (4096, True)


def test_it_never_asks_for_health() -> None:
    """/health would generate a token."""
    asked: list[Ask] = []
    check("sglang", SERVER, (), asked)
    assert "/health" not in {ask.path for ask in asked}


def test_starting_is_not_yet() -> None:
    """/ready 503 is LOADING."""
    assert check("sglang", {**SERVER, "/ready": Answer(status=503)}).health is Health.LOADING


def test_tools_need_a_parser() -> None:
    """A parser named: tools; the field there and null: none; the field missing: unknown."""
    told = []
    for more in ({"tool_call_parser": "qwen"}, {"tool_call_parser": None}, {}):
        script = {**SERVER, "/model_info": json_answer(INFO | more)}
        told.append(by_id(check("sglang", script))["m"].capabilities.tools)
    assert told == [True, False, None]


def test_an_older_server_is_asked_by_its_older_path() -> None:
    """/get_model_info before 0.5; an embedding model does not generate."""
    script = {
        "/v1/models": LIST,
        "/get_model_info": json_answer({"model_path": "p", "is_generation": False}),
    }
    model = by_id(check("sglang", script))["m"]
    assert (model.kind, model.capabilities.embeddings) == (ModelKind.EMBEDDING, True)


def test_load_is_read_from_either_generation() -> None:
    """/v1/loads, else /get_load, where the total includes those that wait; else unknown."""
    new = load({"/v1/loads?include=core": json_answer(LOADS)})
    assert (new.running, new.waiting) == (5, 1)
    old = load({"/get_load": json_answer([{"num_reqs": 5, "num_waiting_reqs": 2}])})
    assert (old.running, old.waiting) == (3, 2)
    none = load({})
    assert (none.health, none.running) == (Health.HEALTHY, None)


def test_its_flat_errors_are_read() -> None:
    """``{"object": "error", "message", "type", "code"}``."""
    body = (
        b'{"object":"error","message":"The input (9 tokens) is longer than the model\'s context '
        b'length (8 tokens).","type":"BadRequestError","param":null,"code":400}'
    )
    said = SglangAdapter().read_error(400, body)
    assert said.meaning is ErrorMeaning.PROMPT_TOO_LONG
    full = b'{"object":"error","message":"The request queue is full.","code":503}'
    assert SglangAdapter().read_error(503, full).meaning is ErrorMeaning.OVERLOADED
