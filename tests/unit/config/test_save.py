"""Files are replaced in one step, as they were otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus.config.edit import EditError
from nexus.config.save import read_file, write_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_mode_stays(tmp_path: Path) -> None:
    """A new text has the old one's mode; nothing else is left in the folder."""
    file = tmp_path / "nexus.toml"
    file.write_text("old")
    file.chmod(0o640)
    write_file(read_file(file), "new é")
    assert file.read_text() == "new é"
    assert file.stat().st_mode & 0o777 == 0o640
    assert names(tmp_path) == ["nexus.toml"]


def test_a_new_file_is_for_its_owner(tmp_path: Path) -> None:
    """One that was not there is made, readable by its owner only: headers may hold keys."""
    file = tmp_path / "nexus.toml"
    before = read_file(file)
    assert before.text == ""
    write_file(before, "x")
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """What it leads to is replaced, where that is."""
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "n.toml", tmp_path / "nexus.toml"
    real.write_text("old")
    link.symlink_to("real/n.toml")
    write_file(read_file(link), "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert names(tmp_path / "real") == ["n.toml"]


def test_somebody_else_was_faster(tmp_path: Path) -> None:
    """A file that has changed since it was read is not overwritten, nor one that has come."""
    file, other = tmp_path / "nexus.toml", tmp_path / "other.toml"
    file.write_text("old")
    read, absent = read_file(file), read_file(other)
    file.write_text("theirs")
    other.write_text("theirs")
    for before, path in ((read, file), (absent, other)):
        with pytest.raises(EditError, match="just been changed by someone else"):
            write_file(before, "ours")
        assert path.read_text() == "theirs"
    assert names(tmp_path) == ["nexus.toml", "other.toml"]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    """The error names the file and why, and nothing was lost."""
    with pytest.raises(EditError, match=r"gone/nexus.toml cannot be written \(No such file"):
        write_file(read_file(tmp_path / "gone" / "nexus.toml"), "x")
    with pytest.raises(EditError, match=r"cannot be read \(Is a directory\)"):
        read_file(tmp_path)


def test_text_that_is_none(tmp_path: Path) -> None:
    """A file that is not UTF-8 is not edited."""
    file = tmp_path / "nexus.toml"
    file.write_bytes(b"\xff")
    with pytest.raises(EditError, match="not valid UTF-8"):
        _ = read_file(file).text
