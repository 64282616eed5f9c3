"""Real engines and a real gateway as processes on loopback."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.processes import Process, clean_environment, until
from tests.real.tiny_model import TINY_NAME

__all__ = ["LlamaCpp", "Nexus", "Ollama", "Server"]

_ROOT = Path(__file__).parents[2]


class Server:
    """A process that answers HTTP at ``url``."""

    process: Process
    url: str

    def get(self, path: str) -> Any:
        """The JSON at ``path``."""
        return httpx.get(f"{self.url}{path}", timeout=10.0, trust_env=False).json()

    def post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """The answer to a JSON body."""
        return httpx.post(f"{self.url}{path}", json=body, timeout=30.0, trust_env=False)

    def answers(self, path: str) -> bool:
        """Whether ``path`` is answered 200 just now."""
        try:
            return httpx.get(f"{self.url}{path}", timeout=2.0, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def end(self) -> None:
        """Ends it."""
        self.process.end()


class LlamaCpp(Server):
    """A real llama.cpp server. ``arguments`` are those of ``llamacpp_server``."""

    def __init__(self, name: str, gguf: Path, home: Path, *arguments: str) -> None:
        self.name = name
        self._gguf = gguf
        self._home = home
        self._arguments = arguments
        self._starts = 0
        self.port = 0
        self.start()

    def start(self) -> None:
        """Starts it, again on the port it had before."""
        self._starts += 1
        module = [sys.executable, "-m", "tests.real.llamacpp_server"]
        self.process = Process(
            [*module, str(self._gguf), "--port", str(self.port), *self._arguments],
            self._home / f"{self.name}-{self._starts}.log",
            clean_environment(self._home, PYTHONPATH=str(_ROOT)),
        )
        with self.process.ended_unless_ready():
            # Not anchored: its log may be written into the same line.
            self.url = self.process.says(r"(http://127\.0\.0\.1:\d+)\s")
            until(lambda: self.answers("/health"), f"{self.name} answers /health")
        self.port = int(self.url.rpartition(":")[2])

    def end(self) -> None:
        """Ends it at once: asked to, it takes a second."""
        self.process.kill()

    def props(self) -> dict[str, Any]:
        """What it says of itself."""
        told: dict[str, Any] = self.get("/props")
        return told

    def busy_slots(self) -> int:
        """How many requests it works on."""
        return sum(slot["is_processing"] for slot in self.get("/slots"))

    def tokens_made(self) -> int:
        """How many tokens it has generated since its start."""
        page = httpx.get(f"{self.url}/metrics", timeout=10.0, trust_env=False).text
        found = re.search(r"(?m)^llamacpp:tokens_predicted_total (\S+)$", page)
        assert found is not None
        return int(float(found[1]))


class Ollama(Server):
    """A real Ollama with models and home of its own, never the user's."""

    def __init__(self, binary: Path, home: Path, settings: Mapping[str, str] | None = None) -> None:
        self.name = "ollama"
        self._binary = binary
        self._home = home
        # Cloud models off: without that it looks for ollama.com.
        self._environment = clean_environment(
            home, OLLAMA_MODELS=str(home / "models"), OLLAMA_NO_CLOUD="1", **(settings or {})
        )
        self.process = Process(
            [str(binary), "serve"],
            home / "ollama.log",
            {**self._environment, "OLLAMA_HOST": "127.0.0.1:0"},
        )
        with self.process.ended_unless_ready():
            address = self.process.says(r"Listening on (127\.0\.0\.1:\d+)\s")
            self.url = f"http://{address}"
            until(lambda: self.answers("/api/version"), "ollama answers /api/version")
        self._environment["OLLAMA_HOST"] = address

    def create(self, model: str, gguf: Path, modelfile: str) -> None:
        """``ollama create`` from ``gguf`` and further lines of a Modelfile."""
        file = self._home / f"{model}.modelfile"
        file.write_text(f"FROM {gguf}\n{modelfile}")
        process = Process(
            [str(self._binary), "create", model, "-f", str(file)],
            self._home / f"{model}.log",
            self._environment,
        )
        with process.ended_unless_ready():
            process.says("(success)")
        process.end()


class Nexus(Server):
    """``nexus serve`` in front of ``backends`` (name → URL), which it must find out about itself:
    no ``type`` is configured. ``more`` has further lines of a backend's table, ``settings`` further
    tables of the file. Ready when all of them are healthy."""

    def __init__(
        self,
        home: Path,
        backends: Mapping[str, str],
        more: Mapping[str, str] | None = None,
        settings: str = "",
    ) -> None:
        lines = ["[server]", "port = 0", "[discovery]", "enabled = false", settings]
        for name, url in backends.items():
            lines += [
                "[[backends]]",
                f'name = "{name}"',
                f'url = "{url}"',
                (more or {}).get(name, ""),
            ]
        file = home / "nexus.toml"
        file.write_text("\n".join(lines))
        self.process = Process(
            [sys.executable, "-m", "nexus", "serve", "--config", str(file)],
            home / "nexus.log",
            clean_environment(home),
        )
        with self.process.ended_unless_ready():
            self.url = self.process.says(r'"url":\s*"(http://[^"]+)"')
            until(lambda: self.health() == len(backends), "all backends healthy")

    def health(self) -> int:
        """How many backends are healthy."""
        return int(self.get("/health")["backends"]["healthy"])

    def backend(self, name: str) -> dict[str, Any]:
        """What the admin API says of a backend."""
        told: dict[str, Any] = self.get(f"/admin/v1/backends/{name}")
        return told

    def model(self, name: str = TINY_NAME) -> dict[str, Any]:
        """The entry of a model."""
        told: dict[str, Any] = self.get(f"/v1/models/{name}")
        return told

    def models_of(self, name: str) -> dict[str, dict[str, Any]]:
        """What the admin API says of a backend's models, by their ids."""
        return {model["id"]: model for model in self.backend(name)["models"]}
