"""Renews ``docs/performance.md`` and its plots from a run."""

from __future__ import annotations

import msgspec
from benchmarks.macro.processes import ROOT
from benchmarks.peers.plots import plots
from benchmarks.peers.results import Results
from benchmarks.peers.tables import markdown

__all__ = ["write_documents"]

_PAGE = ROOT / "docs" / "performance.md"
_FOLDER = ROOT / "docs" / "performance"
_BEGIN = "<!-- figures: written by python -m benchmarks.peers --write-docs -->"
_END = "<!-- end of figures -->"


def write_documents(results: Results) -> None:
    """Writes the tables between the page's marks, the plots and the JSON beside it."""
    _FOLDER.mkdir(exist_ok=True)
    kept = msgspec.json.format(msgspec.json.encode(results), indent=1)
    (_FOLDER / "peers.json").write_bytes(kept + b"\n")
    (_FOLDER / "peers.md").write_text("# Nexus beside its peers\n\n" + markdown(results))
    shown = []
    for name, (title, drawing) in plots(results).items():
        (_FOLDER / f"{name}.svg").write_text(drawing)
        shown.append(f"![{title}](performance/{name}.svg)")
    page = _PAGE.read_text()
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{_PAGE} has lost its marks")
    figures = "\n\n".join([*shown, markdown(results)])
    _PAGE.write_text(f"{before}{begin}\n\n{figures}\n{end}{after}")
