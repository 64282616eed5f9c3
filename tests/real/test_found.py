"""Real engines on scanned ports, and no configuration: they are found and answer."""

from __future__ import annotations

import httpx

from tests.process import NexusProcess
from tests.real.conftest import StartLlamaCpp
from tests.real.servers import Ollama
from tests.real.tiny_model import TINY_NAME


def test_real_engines_are_found(llamacpp_server: StartLlamaCpp, ollama_server: Ollama) -> None:
    """llama.cpp's server and Ollama: each by its own kind, healthy, and a chat reaches them."""
    engines = {"llamacpp": llamacpp_server("found").url, "ollama": ollama_server.url}
    ports = {engine: int(url.rpartition(":")[2]) for engine, url in engines.items()}
    looking = {
        "NEXUS_DISCOVERY__ENABLED": "true",
        "NEXUS_DISCOVERY__MDNS": "false",
        "NEXUS_DISCOVERY__SCAN_PORTS": str(list(ports.values())),
    }
    with NexusProcess("serve", "--port", "0", environment=looking) as process:
        url = process.said("listening")["url"]
        states = [process.said("backend_state") for _ in ports]
        assert {(one["backend"], one["engine"], one["status"]) for one in states} == {
            (f"{engine}-{port}", engine, "healthy") for engine, port in ports.items()
        }
        for engine, port in ports.items():
            answer = httpx.post(
                f"{url}/v1/chat/completions",
                json={
                    "model": TINY_NAME,
                    "messages": [{"role": "user", "content": "hi"}],
                    "max_tokens": 4,
                },
                headers={"x-nexus-pin": f"{engine}-{port}"},
                timeout=60.0,
                trust_env=False,
            )
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-nexus-engine"] == engine
