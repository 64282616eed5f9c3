"""Engines that need gigabytes of packages: vLLM on the CPU and ``transformers serve``, each in an
environment of its own (``make real-engines``)."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx

from tests.processes import Process, clean_environment, until
from tests.real.servers import Server
from tests.real.tiny_folder import HUB_NAME, write_cache, write_folder
from tests.real.tiny_model import TINY_NAME

__all__ = ["TransformersServe", "Vllm"]

START_S = 400.0
"""Importing torch and starting vLLM's processes takes minutes on a small machine."""
_OFFLINE = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}


class Vllm(Server):
    """A real vLLM, its window 2048 tokens, two requests at work at a time."""

    def __init__(self, python: Path, home: Path) -> None:
        self.name = "vllm"
        write_folder(home / "tiny")
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        module = [str(python), "-m", "vllm.entrypoints.openai.api_server"]
        address = ["--host", "127.0.0.1", "--port", str(port)]
        model = ["--model", str(home / "tiny"), "--served-model-name", TINY_NAME]
        limits = ["--max-model-len", "2048", "--max-num-seqs", "2", "--dtype", "float16"]
        tools = ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
        self.process = Process(
            [*module, *address, *model, *limits, *tools, "--enforce-eager"],
            home / "vllm.log",
            clean_environment(
                home,
                **_OFFLINE,
                VLLM_NO_USAGE_STATS="1",
                VLLM_CPU_KVCACHE_SPACE="1",
                VLLM_CPU_OMP_THREADS_BIND="nobind",
            ),
        )
        with self.process.ended_unless_ready():
            self.process.says("(Application startup complete)", START_S)
            until(lambda: self.answers("/health"), "vLLM answers /health")

    def gauge(self, name: str) -> float:
        """The sum of a gauge over all its series in ``/metrics``."""
        page = httpx.get(f"{self.url}/metrics", timeout=10.0, trust_env=False).text
        lines = [line for line in page.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        assert lines, f"no {name} in /metrics"
        return sum(float(line.rpartition(" ")[2]) for line in lines)


class TransformersServe(Server):
    """A real ``transformers serve`` with the tiny model out of a hub cache made by hand."""

    def __init__(self, python: Path, home: Path) -> None:
        self.name = "transformers"
        write_cache(home / "hub")
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        program = [str(python.with_name("transformers")), "serve", HUB_NAME]
        self.process = Process(
            [*program, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            home / "transformers.log",
            clean_environment(home, **_OFFLINE, HF_HUB_CACHE=str(home / "hub")),
        )
        with self.process.ended_unless_ready():
            self.process.says("(Application startup complete)", START_S)
            until(lambda: self.answers("/health"), "transformers serve answers /health")


def _free_port() -> int:
    """A port that nobody had a moment ago: neither program tells the port that the kernel chose."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port
