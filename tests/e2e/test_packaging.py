"""What is published works where nothing else is: sdist, wheel, a clean environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import httpx
import pytest

from nexus import __version__
from tests.processes import Process, clean_environment, until

ROOT = Path(__file__).parents[2]
INSTALL_S = 300.0

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    """Runs a command that must succeed, without this checkout on the path."""
    environment = clean_environment(cwd)
    environment.pop("PYTHONPATH", None)
    # The index that this machine is set up for.
    environment |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    environment["HOME"] = os.environ.get("HOME", str(cwd))
    environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def environment_in(folder: Path) -> Path:
    """A new environment's folder of commands."""
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    return folder / "bin"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of this checkout's files, and the wheel made out of that sdist."""
    work = tmp_path_factory.mktemp("build")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        target = work / "checkout" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, target)
    commands = environment_in(work / "builder")
    run(commands / "pip", "install", "--quiet", "hatchling>=1.27", cwd=work)
    out = work / "out"
    hatchling = (commands / "python", "-m", "hatchling", "build", "-d", out)
    run(*hatchling, "-t", "sdist", cwd=work / "checkout")
    (sdist,) = out.glob("*.tar.gz")
    (work / "unpacked").mkdir()
    run("tar", "-xzf", sdist, "-C", work / "unpacked", cwd=work)
    (tree,) = (work / "unpacked").iterdir()
    run(*hatchling, "-t", "wheel", cwd=tree)
    return out


@pytest.fixture(scope="module")
def installed(built: Path) -> Path:
    """The folder of commands of an environment with nothing but the wheel and what it needs."""
    commands = environment_in(built.parent / "clean")
    (wheel,) = built.glob("*.whl")
    pinned = ROOT / "constraints.txt"
    run(commands / "pip", "install", "--quiet", "-c", pinned, wheel, cwd=built)
    return commands


def test_what_the_wheel_holds(built: Path) -> None:
    """The package, its types' mark, the dashboard; no test, no cache; one version everywhere."""
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"nexus_gateway-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        told = Parser().parsestr(archive.read(metadata).decode())
    assert told["Version"] == __version__
    source = ROOT / "src"
    wanted = {
        str(path.relative_to(source))
        for path in (source / "nexus").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"nexus/py.typed", "nexus/admin/static/index.html"} <= wanted
    assert {name for name in names if name.startswith("nexus/")} == wanted
    assert not [name for name in names if not name.startswith(("nexus/", "nexus_gateway-"))]


def test_what_the_sdist_holds(built: Path) -> None:
    """What is needed to build, run and read it; no tests."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("README.md", "LICENSE", "nexus.example.toml", "deploy/nexus.service"):
        assert name in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", ".venv/"))]


def test_the_command_works(installed: Path, tmp_path: Path) -> None:
    """``nexus`` is there, knows its version, and depends on nothing that is only here."""
    assert run(installed / "nexus", "--version", cwd=tmp_path) == f"nexus {__version__}\n"
    assert "Commands:" in run(installed / "nexus", "--help", cwd=tmp_path)
    run(installed / "pip", "check", cwd=tmp_path)


def test_the_demo_works(installed: Path, tmp_path: Path) -> None:
    """``nexus demo`` serves calls, the admin API and the dashboard; ``top`` and ``chat`` run."""
    environment = clean_environment(tmp_path)
    environment.pop("PYTHONPATH", None)
    command = [str(installed / "nexus"), "demo", "--port", "0"]
    process = Process(command, tmp_path / "demo.log", environment)
    try:
        url = process.says(r'"url":\s*"(http://[^"]+)"')

        def healthy() -> bool:
            told = httpx.get(f"{url}/health", timeout=10, trust_env=False).json()
            return bool(told["status"] == "healthy")

        until(healthy, "both demo engines healthy")
        page = httpx.get(f"{url}/", timeout=10, trust_env=False)
        assert page.status_code == 200
        assert "<html" in page.text
        nexus = installed / "nexus"
        asked = ("--gateway", url)
        assert "demo-vllm" in run(nexus, "backends", "list", *asked, cwd=tmp_path)
        assert "2/2 backends" in run(nexus, "top", "--once", *asked, cwd=tmp_path)
        assert run(nexus, "chat", "demo-llama", "Hi", "--max-tokens", "2", *asked, cwd=tmp_path)
    finally:
        code = process.end()
    assert code == 0
