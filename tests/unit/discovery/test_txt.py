"""TXT records and names of adverts: written by strangers, read without harm."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nexus.core.backend import EngineKind
from nexus.discovery.txt import Txt, display_name, parse_txt, printable


def txt(*strings: str | bytes) -> bytes:
    """A TXT record of these strings."""
    raw = [text.encode() if isinstance(text, str) else text for text in strings]
    return b"".join(bytes([len(one)]) + one for one in raw)


def test_says_what_it_says() -> None:
    """Engine, path, version and models come out as they were put in."""
    read = parse_txt(
        txt("type=vllm", "api_path=/llm/v1", "version=0.32.0", "models=llama3:70b, org/qwen;a b")
    )
    assert read == Txt(
        engine=EngineKind.VLLM,
        base_path="/llm",
        version="0.32.0",
        models=("llama3:70b", "org/qwen", "a", "b"),
    )


def test_type_comes_before_engine_and_first_key_counts() -> None:
    """Of two keys alike the first counts, whatever their case; ``type`` stands above ``engine``."""
    assert parse_txt(txt("ENGINE=vllm", "Type=Ollama", "type=exo")).engine is EngineKind.OLLAMA
    assert parse_txt(txt("engine=llama.cpp")).engine is EngineKind.LLAMACPP
    assert parse_txt(txt("engine=LM-Studio")).engine is EngineKind.LMSTUDIO


def test_unknown_engine_is_left_to_the_fingerprint() -> None:
    """A type that names no engine, or only the OpenAI API, says nothing."""
    for kind in ("openai", "generic", "toaster", "", "type"):
        assert parse_txt(txt(f"type={kind}")) == Txt()


def test_another_nexus_is_recognised() -> None:
    """``type=nexus`` and its id are understood; an id that is no hexadecimal number is dropped."""
    assert parse_txt(txt("type=nexus", "id=abc123")) == Txt(nexus=True, instance_id="abc123")
    assert parse_txt(txt("type=nexus", "id=../x")).instance_id == ""


def test_api_path() -> None:
    """What stands before ``/v1`` is the base path; ``/api`` alone means Ollama's own API; a path
    with anything odd in it is dropped."""
    paths = {
        "/v1": "",
        "v1/": "",
        "/": "",
        "/api": "",
        "/api/v1": "/api",
        "/a/b/v1/": "/a/b",
        "/a/../b": "",
        "//evil.example/v1": "/evil.example",
        "/a b": "",
        "/a?x=1": "",
        "/a%0d%0aHost:x": "",
        "http://evil.example/": "",
        "/" + "a" * 200: "",
    }
    for path, base in paths.items():
        assert parse_txt(txt(f"api_path={path}")).base_path == base, path


def test_harmful_text_is_made_harmless() -> None:
    """Control characters, direction marks and bytes that are no UTF-8 do not come through."""
    read = parse_txt(txt("version=1\x1b[31m\r\n2\u202e3", b"models=\xff\xfe", b"\xff=\x00"))
    assert read == Txt(version="1 [31m 2 3")
    assert display_name("</script><b>tiny</b>\x00") == "script-b-tiny-b"
    assert display_name("Anna's Mac (2)._x") == "Anna-s Mac (2)._x"
    assert display_name("\u202e\x07 ") == ""
    assert display_name("café Ωmega 日本") == "café Ωmega 日本"


def test_a_length_beyond_the_end_and_empty_strings_are_harmless() -> None:
    """A record cut short, empty strings, keys without value, values without key."""
    assert parse_txt(b"\xfftype=vllm").engine is EngineKind.VLLM
    assert parse_txt(b"\x00\x00\x00" + txt("type", "=x", "type=vllm")) == Txt()


_RECORDS = st.lists(st.binary(max_size=255)).map(lambda strings: txt(*strings))


@given(st.one_of(st.binary(max_size=3000), _RECORDS))
def test_any_bytes_are_read(data: bytes) -> None:
    """Whatever the bytes, nothing is raised, and what comes out is printable and bounded."""
    harmless(parse_txt(data))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["type", "engine", "api_path", "version", "models", "id"]),
            st.text(max_size=60),
        )
    )
)
def test_any_values_are_read(pairs: list[tuple[str, str]]) -> None:
    """The same for known keys with any text."""
    strings = [f"{key}={value}".encode("utf-8", "surrogatepass")[:255] for key, value in pairs]
    harmless(parse_txt(txt(*strings)))


def harmless(read: Txt) -> None:
    """Fails when anything could hurt a terminal, a page, a URL or the memory."""
    assert read.version.isprintable()
    assert len(read.version) <= 64
    assert len(read.models) <= 64
    for name in read.models:
        assert name
        assert name.isprintable()
        assert len(name) <= 128
    assert len(read.base_path) <= 129
    assert read.base_path == "" or read.base_path.startswith("/")
    assert read.base_path.isascii()
    assert not set(read.base_path) & set(" ?#%\\\"'<>:@")
    assert "/../" not in read.base_path + "/"
    assert len(read.instance_id) <= 64


@given(st.text(max_size=400))
def test_any_name_can_be_shown(name: str) -> None:
    """A name for display is printable, at most 63 characters, and has nothing that a page, a shell
    or a URL's path would take for its own."""
    shown = display_name(name)
    assert shown.isprintable()
    assert len(shown) <= 63
    assert not set(shown) & set("<>&\"'/\\%?#;|$`*!{}[]\n\t")
    assert printable(name, 50).isprintable()
    assert len(printable(name, 50)) <= 50
