"""A server that was found waits for a person's yes."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from nexus.demo.engine import FakeEngine
from tests.e2e.stage import engines_running, gateway_running
from tests.processes import until


def test_found_approved_used(tmp_path: Path) -> None:
    """With auto_approve = "never" it is listed as pending and gets nothing; `backends approve` lets
    it in, and it serves."""
    found = FakeEngine(dialect="vllm", name="found", models=("m",))
    with engines_running(found):
        port = urlsplit(found.url).port
        discovery = f'mdns = false\nannounce = false\nscan_ports = [{port}]\nauto_approve = "never"'
        with gateway_running(tmp_path, {}, discovery=discovery) as stage:

            def backends() -> list[dict[str, str]]:
                listed: list[dict[str, str]] = stage.admin("/backends")["data"]
                return listed

            until(backends, "it is found", timeout_s=20)
            (pending,) = backends()
            assert pending["status"] == "pending"
            assert stage.nexus("chat", "m", "Hi").code == 1
            row = stage.nexus("backends", "list").rows[1]
            assert (row[0], row[2]) == (pending["name"], "pending")

            approved = stage.nexus("backends", "approve", pending["name"])
            assert approved.out.startswith(f"approved {pending['name']}")
            until(lambda: stage.healthy() == 1, "it is used")
            assert backends()[0]["engine"] == "vllm"
            assert stage.nexus("chat", "m", "Hi").code == 0
            again = stage.nexus("backends", "approve", pending["name"])
            assert again.code == 1
            assert "does not wait for approval" in again.err
