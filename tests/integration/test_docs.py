"""The commands that the documentation shows are run as they stand there.

A fenced ``bash`` block right after a line ``<!-- test: demo -->`` is run by bash against ``nexus
demo``, its ``http://localhost:8000`` replaced by where the demo listens.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.processes import Process, clean_environment, until

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHOWN_URL = "http://localhost:8000"
_BLOCK = re.compile(r"^<!-- test: demo -->\n+```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"^\s*<!-- test: .*-->", re.MULTILINE)
CURL_CALLS = 3
"""The seed has the README show three: models, a plain chat and a streamed one."""


class Block(NamedTuple):
    """A block to run; ``where`` is ``PAGE:LINE``."""

    where: str
    script: str


def _blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, found.start()) + 1}", found[1])
        for found in _BLOCK.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in _blocks(page)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``nexus demo`` on a free port; its URL."""
    home = tmp_path_factory.mktemp("demo")
    process = Process(
        [sys.executable, "-m", "nexus", "demo", "--port", "0"],
        home / "demo.log",
        clean_environment(home),
    )
    with process.ended_unless_ready():
        url = process.says(r'"url":\s*"(http://[^"]+)"')
        until(lambda: _healthy_backends(url) == 2, "both demo engines healthy")
    yield url
    assert process.end() == 0


def _healthy_backends(url: str) -> int:
    told = subprocess.run(
        ["curl", "-sS", f"{url}/health"], capture_output=True, timeout=10, check=True
    )
    return int(json.loads(told.stdout)["backends"]["healthy"])


def test_curl_is_there() -> None:
    """What follows needs curl, as the reader does."""
    assert shutil.which("curl"), "curl is missing: install it (Debian: apt-get install curl)"


def test_every_mark_has_its_block() -> None:
    """No mark is without a block that the test finds: a slip would leave it unrun."""
    marks = sum(len(_MARK.findall(page.read_text(encoding="utf-8"))) for page in PAGES)
    assert marks == len(BLOCKS)


def test_the_readme_shows_the_calls_that_matter() -> None:
    """The README's blocks have at least three curl calls: models, a chat, a streamed chat."""
    shown = "\n".join(block.script for block in BLOCKS if block.where.startswith("README.md:"))
    assert len(re.findall(r"^\s*curl ", shown, re.MULTILINE)) >= CURL_CALLS
    assert "/v1/models" in shown
    assert shown.count("/v1/chat/completions") >= 2
    assert re.search(r'"stream":\s*true', shown)


@pytest.mark.parametrize("block", BLOCKS, ids=[block.where for block in BLOCKS])
def test_commands_work_as_shown(demo: str, block: Block) -> None:
    """Each command of a block succeeds and none is answered by an error."""
    assert SHOWN_URL in block.script, "it asks the gateway where the pages say it is"
    # Fail with curl's own exit code where the status says so, at any command of the block.
    prelude = 'set -euo pipefail\ncurl() { command curl --fail-with-body --max-time 20 "$@"; }\n'
    done = subprocess.run(
        ["bash", "-c", prelude + block.script.replace(SHOWN_URL, demo)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{block.script}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip()
    # An error's only member, that is: answers of the admin API have fields of that name.
    assert not re.search(r'\{\s*"error":\s*\{', done.stdout)


def test_the_readmes_answers_are_what_it_says(demo: str) -> None:
    """Of the README's calls one lists models, one answers a chat, one streams to ``[DONE]``."""
    answers = ""
    for block in BLOCKS:
        if block.where.startswith("README.md:"):
            script = block.script.replace(SHOWN_URL, demo)
            answers += subprocess.run(
                ["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True
            ).stdout
    assert re.search(r'"object":\s*"list"', answers)
    assert re.search(r'"object":\s*"chat.completion"', answers)
    assert re.search(r'"object":\s*"chat.completion.chunk"', answers)
    assert "data: [DONE]" in answers
