"""Keys are found on their lines."""

from __future__ import annotations

import pytest

from nexus.config.fields import KeyPath
from nexus.config.lines import LineIndex

TEXT = """\
# server.port = 1
telemetry.history_size = 5
[server]
port = 8000
  "host" = "a"

[[backends]]
name = "a"
[[backends]]
name = "b"
note = \"\"\"
name = "not a key"
\"\"\"
url = "u"
[backends.headers]
X-A = "1"
[models."llama3:70b"]
vision = true
[routing]
weights = { load = 1 }
aliases."gpt-4" = "x"
fallbacks.a = [
  "b",
]
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("telemetry", "history_size"), 2),
        (("server",), 3),
        (("server", "port"), 4),
        (("server", "host"), 5),
        (("server", "missing"), 3),
        (("backends", 0, "name"), 8),
        (("backends", 0, "url"), 7),
        (("backends", 1), 9),
        (("backends", 1, "name"), 10),
        (("backends", 1, "url"), 14),
        (("backends", 1, "headers", "X-A"), 16),
        (("models", "llama3:70b", "vision"), 18),
        (("routing", "weights", "load"), 20),
        (("routing", "aliases", "gpt-4"), 21),
        (("routing", "fallbacks", "a", 0), 22),
        (("logging", "level"), None),
    ],
)
def test_a_key_has_its_line(path: KeyPath, line: int | None) -> None:
    """A key is found where it is written, else at the table around it, else nowhere."""
    assert LineIndex(TEXT).line(path) == line


def test_windows_line_ends_change_nothing() -> None:
    """A file with CR LF has the same lines."""
    assert LineIndex("[server]\r\nport = 1\r\n").line(("server", "port")) == 2
