"""How much memory a gateway takes that has just been started."""

from __future__ import annotations

from pathlib import Path

from tests.process import NexusProcess, resident_bytes

LIMIT_BYTES = 45 * 1024 * 1024


def test_a_gateway_just_started_is_small(tmp_path: Path) -> None:
    """``nexus serve`` takes at most 45 MiB when it begins to listen."""
    file = tmp_path / "nexus.toml"
    file.write_text("")
    with NexusProcess("serve", "--config", str(file), "--port", "0") as gateway:
        gateway.said("listening")
        taken_bytes = resident_bytes(gateway.pid)
    assert 0 < taken_bytes <= LIMIT_BYTES, f"{taken_bytes / 2**20:.1f} MiB"
