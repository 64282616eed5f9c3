"""Configuration files are read whole or refused whole."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.config.parse import ConfigError, Problem, build_backend, parse_config
from nexus.config.problem import ProblemList
from nexus.config.schema import Config, Weights


def problems(text: str) -> tuple[Problem, ...]:
    """What is wrong with a file of this text."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, source="nexus.toml")
    return caught.value.problems


def only_problem(text: str) -> Problem:
    """The one thing that is wrong."""
    (problem,) = problems(text)
    return problem


def test_an_empty_file_is_all_defaults() -> None:
    """Nothing written means nothing changed."""
    assert parse_config("", source="nexus.toml") == Config()


def test_values_reach_their_places() -> None:
    """Sections, lists of tables, named tables and inline tables are all read."""
    config = parse_config(
        """
        [server]
        port = 9000
        request_timeout_seconds = 1
        [routing]
        weights = { load = 1 }
        aliases = { "gpt-4" = "llama3:70b" }
        fallbacks = { "llama3:70b" = ["qwen2:72b"] }
        [[backends]]
        name = "gpu"
        url = "http://h:1/v1"
        type = "vllm"
        models = ["m"]
        first_byte_timeout_seconds = 7
        [models."llama3:70b"]
        vision = true
        """,
        source="nexus.toml",
    )
    assert config.server.port == 9000
    assert config.server.request_timeout_seconds == 1.0
    assert config.routing.weights == Weights(load=1.0)
    assert config.routing.aliases == {"gpt-4": "llama3:70b"}
    assert config.routing.fallbacks == {"llama3:70b": ("qwen2:72b",)}
    assert config.backends[0].models == ("m",)
    assert config.backends[0].first_byte_timeout_seconds == 7.0
    assert config.backends[0].connect_timeout_seconds is None
    assert config.models["llama3:70b"].vision is True
    assert config.models["llama3:70b"].tools is None


def test_an_unknown_key_is_told_with_its_place_and_the_nearest() -> None:
    """File, line, key path and the valid name that was meant."""
    assert only_problem("[server]\nprot = 1\n") == Problem(
        source="nexus.toml", line=2, key="server.prot", message="unknown key", nearest="port"
    )


def test_an_unknown_section_is_told() -> None:
    """A misspelt section is one problem, not one per key in it."""
    problem = only_problem("[sever]\nport = 1\nhost = 'a'\n")
    assert (problem.key, problem.line, problem.nearest) == ("sever", 1, "server")


def test_a_key_in_the_wrong_section_is_led_home() -> None:
    """A key that another section has is suggested with its whole path."""
    assert only_problem("strategy = 'smart'").nearest == "routing.strategy"


def test_a_literal_key_is_led_to_the_variable() -> None:
    """Keys do not stand in files; who tries is told of api_key_env, and the key is not shown."""
    problem = only_problem("[[backends]]\nname='a'\nurl='http://h'\napi_key='sk-1234'\n")
    assert problem.nearest == "api_key_env"
    assert "sk-1234" not in str(problem)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("port = 'x'", "must be a whole number from 0 to 65535, not text"),
        ("port = 65536", "must be a whole number from 0 to 65535, not 65536"),
        ("port = true", "must be a whole number from 0 to 65535, not true"),
        ("port = 1.5", "must be a whole number from 0 to 65535, not 1.5"),
        ("host = 5", "must be text, not empty, not a number"),
        ("host = 1979-05-27", "must be text, not empty, not a date"),
        ("host = ''", "must be text, not empty, not empty text"),
        ("keep_alive_seconds = -1", "must be a number from 0 to 31536000, not -1"),
        ("keep_alive_seconds = inf", "must be a number from 0 to 31536000, not inf"),
        ("keep_alive_seconds = nan", "must be a number from 0 to 31536000, not nan"),
        ("client_head_timeout_seconds = 0", "must be a number above 0, at most 31536000, not 0"),
        ("max_body_bytes = 0", "must be a whole number of at least 1, not 0"),
        ("allowed_hosts = 'a'", "must be a list, each item text, not empty, not text"),
    ],
)
def test_a_wrong_value_is_told_with_what_it_must_be(line: str, message: str) -> None:
    """Type and bounds are said in words, the wrong value where it cannot be a secret."""
    problem = only_problem(f"[server]\n{line}\n")
    assert (problem.message, problem.line) == (message, 2)


def test_a_bad_choice_is_told_with_the_nearest() -> None:
    """A strategy that does not exist is answered with all that do, and the likeliest."""
    problem = only_problem("[routing]\nstrategy = 'roundrobin'\n")
    assert problem.nearest == "round_robin"
    assert '"least_load"' in problem.message
    assert '"roundrobin"' in problem.message


def test_a_bad_engine_type_is_told() -> None:
    """An engine nobody knows is refused with the nearest one."""
    problem = only_problem("[[backends]]\nname='a'\nurl='http://h'\ntype='llama.cpp'\n")
    assert (problem.key, problem.nearest) == ("backends[0].type", "llamacpp")


def test_a_bad_item_does_not_hide_the_next() -> None:
    """Each item of a list is looked at."""
    found = problems("[discovery]\nscan_ports = [0, 11434, 'x']\n")
    assert [problem.key for problem in found] == [
        "discovery.scan_ports[0]",
        "discovery.scan_ports[2]",
    ]


def test_a_backend_needs_a_name_and_a_url() -> None:
    """What is missing is told at the line where its table begins."""
    found = problems("[server]\n[[backends]]\npriority = 1\n")
    assert [(p.key, p.message, p.line) for p in found] == [
        ("backends[0].name", "is required", 2),
        ("backends[0].url", "is required", 2),
    ]


def test_what_is_no_table_keeps_its_place() -> None:
    """A backend that is no table leaves the positions of the others right."""
    found = problems("backends = [1, {name = 'a', url = 'ftp://h'}]")
    assert [problem.key for problem in found] == ["backends[0]", "backends[1].url"]


def test_a_section_that_is_no_table_is_told() -> None:
    """`server = 5` is a wrong type like any other."""
    assert only_problem("server = 5").message == "must be a table, not a number"


def test_an_empty_name_is_refused() -> None:
    """A model or alias without a name is a mistake."""
    assert only_problem("[models.'']\n").message == "the name must be text, not empty"


@pytest.mark.parametrize(
    ("text", "line"),
    [("[server]\nport = \n", 2), ("[server]\na = 1\na = 2", 3), ("x = [1,\n\n", 3), ("[[[", 1)],
)
def test_what_is_not_toml_is_told_with_its_line(text: str, line: int) -> None:
    """Syntax mistakes have a line, at the end of the text too."""
    problem = only_problem(text)
    assert problem.message.startswith("not valid TOML: ")
    assert problem.line == line
    assert "(at" not in problem.message


def test_five_mistakes_are_told_at_once() -> None:
    """An unknown key, a wrong type, a duplicate name, a bad URL and a cycle: five problems."""
    found = problems(
        """\
[server]
prot = 1
max_body_bytes = "10M"
[routing]
aliases = { a = "b", b = "a" }
[[backends]]
name = "gpu"
url = "http://h"
[[backends]]
name = "gpu"
url = "h:1"
"""
    )
    assert [(problem.line, problem.key) for problem in found] == [
        (2, "server.prot"),
        (3, "server.max_body_bytes"),
        (5, "routing.aliases.a"),
        (10, "backends[1].name"),
        (11, "backends[1].url"),
    ]


SCALARS = st.one_of(
    st.booleans(), st.integers(-5, 99999).map(str), st.sampled_from(["'x'", "[]", "{}", "nan"])
)


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text, however odd, raises anything but ConfigError."""
    try:
        parse_config(text, source="f")
    except ConfigError as error:
        assert error.problems  # noqa: PT017


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(
        st.sampled_from(["port", "host", "max_body_bytes", "cors_origins", "tls_cert", "prot"]),
        SCALARS,
    )
)
def test_each_bad_key_is_one_problem(values: dict[str, object]) -> None:
    """However keys are combined, each one is judged as if it stood alone."""

    def keys(chosen: dict[str, object]) -> set[str]:
        lines = [f"{key} = {str(value).lower()}" for key, value in chosen.items()]
        try:
            parse_config("\n".join(["[server]", *lines]), source="f")
        except ConfigError as error:
            return {problem.key for problem in error.problems}
        return set()

    alone = [keys({key: value}) for key, value in values.items()]
    assert keys(values) == set().union(*alone)


def test_mistakes_by_the_thousand_take_no_time() -> None:
    """All are told, but likeness is looked for in the first ones only: a request to the admin API
    holds a hundred thousand keys, and every call would wait."""
    found = ProblemList(lambda _: ("request", None))
    raw = {"url": "http://h", "name": "a", "priorit": 1, **{f"zone{n}": 1 for n in range(20_000)}}
    began_s = process_time()
    build_backend({**raw, "k" * 900_000: 1}, found)
    assert process_time() - began_s < 1.0
    assert len(found.problems) == 20_002
    assert found.problems[0].nearest == "priority"
