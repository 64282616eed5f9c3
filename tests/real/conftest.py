"""Fixtures that start real engines. llama.cpp is always there (the ``real`` extra); Ollama is a
binary that no registry carries, so tests with it are skipped where none is found; vLLM and
transformers need gigabytes: their tests are marked ``heavy`` and run where they are prepared."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.real import tiny_model, tiny_vocabulary
from tests.real.heavy_servers import TransformersServe, Vllm
from tests.real.servers import LlamaCpp, Nexus, Ollama, Server

_ROOT = Path(__file__).parents[2]
_CACHE = _ROOT / ".cache" / "real"
_ARCHIVE = "ollama-linux-amd64.tar.xz"
_ARCHIVE_FOLDERS = (_ROOT, _ROOT.parent, _ROOT.parent / "shared" / "engines")

StartLlamaCpp = Callable[..., LlamaCpp]
StartNexus = Callable[..., Nexus]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here drive real engines."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def tiny_gguf() -> Path:
    """The tiny chat model."""
    return _model(tiny_model.TINY_NAME, tiny_model.Shape())


@pytest.fixture(scope="session")
def embed_gguf() -> Path:
    """A model file of its own for embeddings: vectors of 96 numbers, no chat template."""
    return _model("nexus-embed", tiny_model.Shape(dim=96, seed=1, chats=False))


@pytest.fixture(scope="session")
def slow_gguf() -> Path:
    """A model of 40 MB, slow enough that its answers last while something else is tried."""
    shape = tiny_model.Shape(layers=8, dim=512, ffn=1024, heads=8, kv_heads=4, context=8192)
    return _model("nexus-slow", shape)


def _model(name: str, shape: tiny_model.Shape) -> Path:
    """A model file, made once for each shape and version of its generator."""
    sources = [Path(str(module.__file__)) for module in (tiny_model, tiny_vocabulary)]
    made_from = [repr(shape).encode(), *(source.read_bytes() for source in sources)]
    path = _CACHE / f"{name}-{hashlib.sha256(b''.join(made_from)).hexdigest()[:12]}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        tiny_model.write_model(path, shape)
    return path


@pytest.fixture(scope="session")
def servers() -> Iterator[list[Server]]:
    """Whatever is started; ended in reverse order."""
    started: list[Server] = []
    yield started
    for server in reversed(started):
        server.end()


@pytest.fixture(scope="session")
def llamacpp_server(
    tiny_gguf: Path, servers: list[Server], tmp_path_factory: pytest.TempPathFactory
) -> StartLlamaCpp:
    """Starts a llama.cpp server: ``llamacpp_server(name, *arguments)``, with the tiny model unless
    another is given."""

    def start(name: str, *arguments: str, gguf: Path = tiny_gguf) -> LlamaCpp:
        server = LlamaCpp(name, gguf, tmp_path_factory.mktemp(name), *arguments)
        servers.append(server)
        return server

    return start


@pytest.fixture(scope="session")
def nexus_server(servers: list[Server], tmp_path_factory: pytest.TempPathFactory) -> StartNexus:
    """Starts a gateway: ``nexus_server(backends, more, settings)``."""

    def start(
        backends: Mapping[str, str], more: Mapping[str, str] | None = None, settings: str = ""
    ) -> Nexus:
        server = Nexus(tmp_path_factory.mktemp("nexus"), backends, more, settings)
        servers.append(server)
        return server

    return start


@pytest.fixture(scope="session")
def ollama_server(
    tiny_gguf: Path, servers: list[Server], tmp_path_factory: pytest.TempPathFactory
) -> Ollama:
    """A real Ollama with ``nexus-tiny`` (the GGUF's own template, window 4096), ``nexus-tools``
    (2048) and ``nexus-think`` (1024)."""
    server = Ollama(_ollama_binary(), tmp_path_factory.mktemp("ollama"))
    servers.append(server)
    turns = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
    tools = "{{ if .Tools }}<tools>{{ range .Tools }}{{ . }}{{ end }}</tools>{{ end }}"
    thought = "{{ if .Think }}<think>\n{{ end }}"
    calls = "{{ range .Messages }}{{ range .ToolCalls }}<tool_call>{{ end }}{{ end }}"
    thinks = (
        "{{ range .Messages }}{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ end }}"
    )
    ask = "<|im_start|>assistant\n"
    for model, template, window in (
        ("nexus-tiny", "", 4096),
        ("nexus-tools", f"{tools}{calls}{turns}{ask}", 2048),
        ("nexus-think", f"{thinks}{turns}{ask}{thought}", 1024),
    ):
        line = f'TEMPLATE """{template}"""\n' if template else ""
        server.create(model, tiny_gguf, f"{line}PARAMETER num_ctx {window}\n")
    return server


@pytest.fixture(scope="session")
def busy_ollama(
    slow_gguf: Path,
    tiny_gguf: Path,
    servers: list[Server],
    tmp_path_factory: pytest.TempPathFactory,
) -> Ollama:
    """A real Ollama that keeps one model in memory and one request waiting for another, and refuses
    further ones with 503. ``nexus-slow`` takes seconds for a long answer."""
    limits = {
        "OLLAMA_MAX_LOADED_MODELS": "1",
        "OLLAMA_MAX_QUEUE": "1",
        "OLLAMA_NUM_PARALLEL": "1",
    }
    server = Ollama(_ollama_binary(), tmp_path_factory.mktemp("busy-ollama"), limits)
    servers.append(server)
    server.create("nexus-slow", slow_gguf, "PARAMETER num_ctx 8192\n")
    server.create("nexus-other", tiny_gguf, "PARAMETER num_ctx 4096\n")
    return server


@pytest.fixture(scope="session")
def vllm_server(servers: list[Server], tmp_path_factory: pytest.TempPathFactory) -> Vllm:
    """A real vLLM on the CPU with the tiny model; it takes a minute and a half to start."""
    server = Vllm(_prepared_python("vllm"), tmp_path_factory.mktemp("vllm"))
    servers.append(server)
    return server


@pytest.fixture(scope="session")
def transformers_server(
    servers: list[Server], tmp_path_factory: pytest.TempPathFactory
) -> TransformersServe:
    """A real ``transformers serve`` with the tiny model."""
    python = _prepared_python("transformers")
    server = TransformersServe(python, tmp_path_factory.mktemp("transformers"))
    servers.append(server)
    return server


def _prepared_python(engine: str) -> Path:
    """The Python of an environment that holds ``engine``: the one that is named, or the one that
    ``make real-engines`` has made."""
    variable = f"NEXUS_TEST_{engine.upper()}_PYTHON"
    given = os.environ.get(variable)
    if given:
        return Path(given)
    python = _CACHE / engine / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no {engine}: {variable} names no Python; `make real-engines` installs it")
    return python


def _ollama_binary() -> Path:
    given = os.environ.get("NEXUS_TEST_OLLAMA")
    if given:
        return Path(given)
    found = shutil.which("ollama")
    if found:
        return Path(found)
    binary = _CACHE / "ollama-dist" / "bin" / "ollama"
    if binary.exists():
        return binary
    for folder in _ARCHIVE_FOLDERS:
        archive = folder / _ARCHIVE
        if archive.is_file():
            return _unpacked(archive, binary)
    pytest.skip(
        f"no Ollama: NEXUS_TEST_OLLAMA names none, none on PATH, no {_ARCHIVE} beside the checkout"
    )


def _unpacked(archive: Path, binary: Path) -> Path:
    part = _CACHE / f"ollama.{os.getpid()}.part"
    with tarfile.open(archive) as packed:
        # Python 3.11 knows filters from 3.11.4 on.
        packed.extraction_filter = getattr(tarfile, "data_filter", None)
        packed.extractall(part)  # noqa: S202 - an archive of our own, filtered as above
    dist = binary.parents[1]
    if not binary.exists():
        (part / dist.name).rename(dist)
    shutil.rmtree(part, ignore_errors=True)
    return binary
