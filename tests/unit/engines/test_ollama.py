"""Ollama's adapter, against the answers of a real 0.33."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from nexus.core.backend import EngineKind
from nexus.core.model import Model, ModelKind
from nexus.engines.adapter import Answer, Ask, ErrorMeaning, Health
from nexus.engines.ollama import OllamaAdapter
from nexus.engines.table import adapter_for
from tests.captures import captured
from tests.unit.engines.drive import by_id, check, json_answer

SHOWS = {
    "nexus-tiny:latest": "ollama/show_nexus-tiny",
    "nexus-tools:latest": "ollama/show_nexus-tools",
    "nexus-think:latest": "ollama/show_nexus-think",
}


def real_server(ps: str = "ollama/ps_one_loaded") -> Callable[[Ask], Answer]:
    """The captured server: four models, show missing for the slow one."""
    plain = {"/api/version": "ollama/version", "/api/tags": "ollama/tags", "/api/ps": ps}

    def answer(ask: Ask) -> Answer:
        if ask.path == "/api/show":
            name = msgspec.json.decode(ask.body or b"")["model"]
            return captured(SHOWS.get(name, "ollama/show_unknown"))
        return captured(plain[ask.path])

    return answer


def one_model(
    name: str = "m:latest",
    *,
    show: Mapping[str, object] | None = None,
    ps: list[dict[str, object]] | None = None,
    **fields: object,
) -> dict[str, Answer]:
    """A server with one model."""
    return {
        "/api/tags": json_answer({"models": [{"name": name, "digest": "d1", **fields}]}),
        "/api/ps": json_answer({"models": ps or []}),
        "/api/show": json_answer(show if show is not None else {}, 200 if show else 404),
    }


def test_a_real_server_is_healthy_with_all_its_models() -> None:
    """Version, ids with their tags, digests, sizes, families and creation are read."""
    result = check("ollama", real_server())
    assert (result.health, result.engine_version) == (Health.HEALTHY, "0.33.0-rc2")
    models = by_id(result)
    assert set(models) == {f"nexus-{word}:latest" for word in ("slow", "tools", "think", "tiny")}
    tiny = models["nexus-tiny:latest"]
    assert tiny.created == 1795397103  # what its own /v1/models says
    assert (tiny.family, tiny.quantization, tiny.size_bytes) == ("llama", "F16", 372677)
    assert tiny.digest is not None
    assert tiny.digest.startswith("8f680728")
    assert tiny.owned_by == "library"


def test_the_window_in_force_is_what_ps_says_of_a_resident_model() -> None:
    """A request's num_ctx reloaded the model: /api/ps tells the new window, and that it is in."""
    models = by_id(check("ollama", real_server("ollama/ps_num_ctx_by_request")))
    (resident,) = [model for model in models.values() if model.loaded]
    told = msgspec.json.decode(captured("ollama/ps_num_ctx_by_request").body)["models"][0]
    assert resident.id == told["name"]
    assert resident.context_length == told["context_length"]
    assert resident.evidence["context_length"] == "/api/ps"


def test_the_window_of_a_model_at_rest_is_its_modelfiles() -> None:
    """Not resident: num_ctx of the Modelfile, never the trained 4096 that the tags show."""
    tools = by_id(check("ollama", real_server("ollama/ps_none_loaded")))["nexus-tools:latest"]
    assert (tools.loaded, tools.context_length) == (False, 2048)
    assert tools.evidence["context_length"] == "/api/show"


def test_a_window_that_nobody_tells_is_unknown() -> None:
    """Neither resident nor with a num_ctx: unknown, not the trained maximum."""
    models = by_id(check("ollama", real_server("ollama/ps_none_loaded")))
    assert models["nexus-think:latest"].context_length is None


def test_a_window_once_seen_is_kept_for_its_digest() -> None:
    """A model without num_ctx keeps the window it had when it was last resident."""
    show = {"capabilities": ["completion"], "template": "{{ .Prompt }}"}
    resident = [{"name": "m:latest", "context_length": 8192}]
    known: tuple[Model, ...] = ()
    windows = []
    for ps in (resident, [], [], resident):
        result = check("ollama", one_model(show=show, ps=ps), known)
        known = result.models or ()
        windows.append((known[0].context_length, known[0].loaded))
    assert windows == [(8192, True), (8192, False), (8192, False), (8192, True)]


def test_an_evicted_model_goes_back_to_its_modelfiles_window() -> None:
    """Loaded once with another num_ctx, then evicted: the next load takes the Modelfile's."""
    show = {
        "capabilities": ["completion"],
        "template": "{{ .Prompt }}",
        "parameters": "num_ctx    2048",
    }
    grown = one_model(show=show, ps=[{"name": "m:latest", "context_length": 8192}])
    known = check("ollama", grown).models or ()
    assert known[0].context_length == 8192
    known = check("ollama", one_model(show=show), known).models or ()
    assert known[0].context_length == 2048


def test_a_modelfiles_window_is_clamped_to_the_trained_one() -> None:
    """A num_ctx above what the model was trained for is cut by the engine, so here too."""
    show = {
        "parameters": "stop  x\nnum_ctx   1000000\n",
        "model_info": {"general.architecture": "llama", "llama.context_length": 4096},
    }
    assert by_id(check("ollama", one_model(show=show)))["m:latest"].context_length == 4096


def test_show_is_asked_once_per_digest() -> None:
    """Unchanged models cost three GETs; a changed digest is asked about again."""
    show = {"capabilities": ["completion", "tools"], "template": "{{ .Tools }}"}
    known = check("ollama", one_model(show=show)).models or ()
    asked: list[Ask] = []
    again = check("ollama", one_model(show=show), known, asked).models
    assert {ask.path for ask in asked} == {"/api/version", "/api/tags", "/api/ps"}
    assert again == known
    asked.clear()
    changed = one_model(show={**show, "capabilities": ["completion"]}, digest="d2")
    check("ollama", changed, known, asked)
    assert [ask.path for ask in asked if ask.body] == ["/api/show"]


def test_a_show_that_failed_is_asked_again_and_loses_nothing() -> None:
    """What is known of a digest survives a failing show."""
    show = {
        "capabilities": ["completion", "tools"],
        "template": "{{ .Tools }}",
        "parameters": "num_ctx 2048",
    }
    grown = one_model(show=show, ps=[{"name": "m:latest", "context_length": 8192}])
    known = check("ollama", grown).models or ()
    broken = {**one_model(), "/api/show": Answer(status=0, error="timed out")}
    known = check("ollama", broken, known).models or ()
    assert known[0].capabilities.tools is True
    assert known[0].context_length == 8192
    known = check("ollama", one_model(show=show), known).models or ()
    assert known[0].context_length == 2048


def test_a_slow_server_is_not_asked_about_every_model() -> None:
    """Shows go out a few at a time and end at the first that does not come back."""
    many = [{"name": f"m{at}:latest", "digest": f"d{at}"} for at in range(300)]
    asked: list[Ask] = []
    script = {"/api/tags": json_answer({"models": many}), "/api/show": Answer(status=0)}
    result = check("ollama", script, (), asked)
    assert result.health is Health.HEALTHY
    assert len(result.models or ()) == 300
    assert len(asked) == 3 + 8


def test_hundreds_of_models_are_learned_over_several_checks() -> None:
    """At most 64 shows per check; the following checks ask about the others."""
    many = [{"name": f"m{at}:latest", "digest": f"d{at}"} for at in range(100)]
    show = json_answer({"capabilities": ["completion"], "template": "x"})
    script = {"/api/tags": json_answer({"models": many}), "/api/show": show}
    known: tuple[Model, ...] = ()
    counts = []
    for _ in range(3):
        asked: list[Ask] = []
        known = check("ollama", script, known, asked).models or ()
        counts.append(sum(ask.path == "/api/show" for ask in asked))
    assert counts == [64, 36, 0]


def test_tools_listed_are_tools() -> None:
    """The capability "tools" of a real server is a yes; thinking likewise."""
    models = by_id(check("ollama", real_server()))
    assert models["nexus-tools:latest"].capabilities.tools is True
    assert models["nexus-think:latest"].capabilities.reasoning is True


def test_show_is_believed_above_the_tags() -> None:
    """The tags list only "completion" for a model whose show lists tools as well (measured)."""
    tiny = by_id(check("ollama", real_server()))["nexus-tiny:latest"]
    assert tiny.capabilities.tools is True
    assert tiny.evidence["tools"] == "/api/show"
    assert tiny.evidence["template"] == "/api/show: Jinja"


def test_tools_not_listed_are_no_firm_no_for_a_jinja_template() -> None:
    """A GGUF's own template may render tools although only "completion" is listed (measured)."""
    show = {"capabilities": ["completion"], "template": "{%- if tools %}x{% endif %}"}
    capabilities = by_id(check("ollama", one_model(show=show)))["m:latest"].capabilities
    assert (capabilities.tools, capabilities.reasoning) == (None, None)


def test_tools_not_listed_are_a_no_for_a_go_template_without_them() -> None:
    """A Go template that does not mention .Tools cannot pass them on."""
    think = by_id(check("ollama", real_server()))["nexus-think:latest"]
    assert think.capabilities.tools is False
    assert think.capabilities.vision is False
    assert think.capabilities.json_mode is True


def test_a_model_that_show_could_not_tell_of_has_unknown_tools() -> None:
    """With the tags alone, "tools" not listed stays unknown."""
    slow = by_id(check("ollama", real_server()))["nexus-slow:latest"]
    assert slow.capabilities.tools is None
    assert slow.capabilities.vision is False


def test_an_embedding_model_is_one() -> None:
    """The capability "embedding" alone makes the kind, and no chat abilities."""
    show = {"capabilities": ["embedding"], "template": "{{ .Prompt }}"}
    model = by_id(check("ollama", one_model("nomic-embed-text:latest", show=show)))[
        "nomic-embed-text:latest"
    ]
    assert model.kind is ModelKind.EMBEDDING
    assert model.capabilities.embeddings is True
    assert model.capabilities.tools is False


def test_an_older_server_shows_abilities_in_other_ways() -> None:
    """No capabilities list: .Tools in the template and a projector speak."""
    show = {"template": "{{ if .Tools }}x{{ end }}", "projector_info": {"a": 1}}
    capabilities = by_id(check("ollama", one_model(show=show)))["m:latest"].capabilities
    assert (capabilities.tools, capabilities.vision) == (True, True)


def test_an_older_server_that_shows_nothing_leaves_all_unknown() -> None:
    """Neither list nor template: unknown is not "no"."""
    capabilities = by_id(check("ollama", one_model(show={"license": "x"})))["m:latest"].capabilities
    assert (capabilities.tools, capabilities.vision, capabilities.reasoning) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "aliases"),
    [
        ("llama3:latest", ("llama3",)),
        ("llama3:8b", ()),
        ("hf.co/Org/M-GGUF:Q4_K_M", ("hf.co/org/m-gguf:q4_k_m",)),
        ("Mine:latest", ("Mine", "mine:latest", "mine")),
    ],
)
def test_a_model_answers_to_what_ollama_takes(name: str, aliases: tuple[str, ...]) -> None:
    """``:latest`` may be left out, and case does not count."""
    assert by_id(check("ollama", one_model(name)))[name].aliases == aliases


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("gpt-oss:120b-cloud", {}),
        ("glm-4.6:cloud", {}),
        ("big:latest", {"remote_host": "https://ollama.com:443", "remote_model": "big"}),
    ],
)
def test_cloud_models_are_noted(name: str, fields: dict[str, Any]) -> None:
    """A model that runs elsewhere is told apart although the server is local."""
    assert "cloud" in by_id(check("ollama", one_model(name, **fields)))[name].evidence
    local = by_id(check("ollama", one_model("cloudy:latest")))["cloudy:latest"]
    assert "cloud" not in local.evidence


def test_a_server_without_models_is_healthy_and_empty() -> None:
    """``"models": null`` is an empty list."""
    result = check("ollama", {"/api/tags": json_answer({"models": None})})
    assert (result.health, result.models) == (Health.HEALTHY, ())


def test_a_foreign_host_is_told_in_words() -> None:
    """Ollama's 403 without a body speaks of Host or Origin, not of a key."""
    result = check("ollama", lambda _: captured("ollama/foreign_host"))
    assert result.health is Health.FAILED
    assert "Host" in result.reason
    said = adapter_for(EngineKind.OLLAMA).read_error(403, b"")
    assert said.meaning is ErrorMeaning.SERVER


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("chat_image_url", ErrorMeaning.CANNOT),
        ("chat_native_images_unsupported", ErrorMeaning.CANNOT),
        ("chat_native_think_unsupported", ErrorMeaning.CANNOT),
        ("embeddings", ErrorMeaning.CANNOT),
        ("err_context_oversized", ErrorMeaning.PROMPT_TOO_LONG),
        ("err_context_oversized_stream", ErrorMeaning.PROMPT_TOO_LONG),
        ("v1_over_context", ErrorMeaning.PROMPT_TOO_LONG),
        ("err_unknown_model", ErrorMeaning.MODEL_NOT_HERE),
        ("v1_model_unknown", ErrorMeaning.MODEL_NOT_HERE),
        ("chat_native_unknown", ErrorMeaning.MODEL_NOT_HERE),
        ("v1_busy_503", ErrorMeaning.OVERLOADED),
        ("runner_killed_v1_plain", ErrorMeaning.SERVER),
        ("err_bad_json", ErrorMeaning.CLIENT),
        ("err_no_messages", ErrorMeaning.CLIENT),
        ("err_wrong_type", ErrorMeaning.CLIENT),
    ],
)
def test_its_real_errors_mean(name: str, meaning: ErrorMeaning) -> None:
    """Each captured error has its meaning, and the runner's nested JSON is taken out."""
    answer = captured(f"ollama/{name}")
    said = OllamaAdapter().read_error(answer.status, answer.body)
    assert said.meaning is meaning
    assert not said.message.startswith("{")


def test_a_cloud_model_without_a_sign_in_is_not_the_servers_fault() -> None:
    """Its 401 names a page to sign in at: that model cannot be had, all others can."""
    body = b'{"error":"unauthorized","signin_url":"https://ollama.com/connect?k=1"}'
    said = OllamaAdapter().read_error(401, body)
    assert said.meaning is ErrorMeaning.CANNOT
    assert "ollama signin" in said.message
    other = OllamaAdapter().read_error(401, b'{"error":"unauthorized"}')
    assert other.meaning is ErrorMeaning.CREDENTIALS


def test_what_it_ignores_is_on_the_table() -> None:
    """Fields measured as ignored are listed; max_completion_tokens is copied, not listed."""
    traits = OllamaAdapter.traits
    assert {"n", "tool_choice", "logit_bias", "parallel_tool_calls"} <= traits.ignored_fields
    assert {"max_tokens", "stop", "seed", "response_format"}.isdisjoint(traits.ignored_fields)
    assert [(row.field, row.target) for row in traits.field_copies] == [
        ("max_completion_tokens", "max_tokens")
    ]
    assert {b"origin", b"referer"} == traits.dropped_headers
    assert traits.truncates_prompts
    assert traits.stop_for_tool_calls
    assert OllamaAdapter().load() is None
