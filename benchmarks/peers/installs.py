"""Environments of the gateways that come from PyPI, each its own, under ``.cache/peers``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.macro.processes import ROOT, CannotRun

__all__ = ["installed", "version"]

_HOME = ROOT / ".cache" / "peers"
_INSTALL_S = 900.0


def installed(name: str, requirement: str, program: str) -> Path:
    """The program, installed where it is not yet. Raises :class:`CannotRun`."""
    home = _HOME / name
    found = home / "bin" / program
    if found.exists():
        return found
    sys.stderr.write(f"installing {requirement} into {home}\n")
    _run([sys.executable, "-m", "venv", str(home)], requirement)
    pip = [str(home / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "install", requirement], requirement)
    if not found.exists():
        raise CannotRun(f"{requirement} has no program {program}")
    return found


def version(name: str, package: str) -> str:
    """The version of what is installed there."""
    command = (
        str(_HOME / name / "bin" / "python"),
        "-c",
        "import sys; from importlib.metadata import version; print(version(sys.argv[1]))",
        package,
    )
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _run(command: list[str], what: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_S)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines()
        raise CannotRun(f"{what} could not be installed: {said[-1] if said else error}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotRun(f"{what} could not be installed: {error}") from None
