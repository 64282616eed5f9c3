"""Edits of [[backends]] that leave all else as it was."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.config.edit import EditError, add_backend, change_backend, remove_backend

TEXT = """# the house's gateway
[server]   # here
port = 8000        # not 80

# the big one
[[backends]]
name = "gpu"       # fast
url  = "http://gpu:8000"
headers.X-Team = "a"

# the small one,
# in the attic
[[backends]]
name = "mac"
url = "http://mac"
models = [
    "one",   # small
    "two",
]
  [backends.query]
  version = "1"

# who goes where
[routing]
max_retries = 1
"""


def test_adding_at_the_end_of_the_backends() -> None:
    """A new table comes after the others, before what follows them; nothing else moves."""
    new = add_backend(TEXT, {"name": "new", "url": "http://n", "headers": {"X": "y"}, "zone": None})
    table = '\n[[backends]]\nname = "new"\nurl = "http://n"\nheaders = {X = "y"}\n'
    assert new == TEXT.replace("\n# who goes", table + "\n# who goes")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[[backends]]\nname = "n"\n'),
        ("# mine\n", '# mine\n\n[[backends]]\nname = "n"\n'),
        ("[server]\nport = 1", '[server]\nport = 1\n\n[[backends]]\nname = "n"\n'),
        ("[server]\nport = 1\n\n\n", '[server]\nport = 1\n\n[[backends]]\nname = "n"\n'),
        ("backends = []\n", 'backends = [{name = "n"}]\n'),
        (
            'backends = [{name="a"}]  # few\n',
            'backends = [{name="a"}, {name = "n"}]  # few\n',
        ),
    ],
)
def test_adding_the_first_one(before: str, after: str) -> None:
    """To an empty file, after other tables, and where backends are one list."""
    assert add_backend(before, {"name": "n"}) == after


def test_changing_a_key() -> None:
    """A value changes in its place, with its comment; a new key joins the others."""
    new = change_backend(TEXT, "gpu", {"url": "http://other", "priority": 3, "name": "gpu"})
    assert new == TEXT.replace(
        'url  = "http://gpu:8000"\nheaders.X-Team = "a"\n',
        'url  = "http://other"\nheaders.X-Team = "a"\npriority = 3\n',
    )


def test_taking_a_key_out() -> None:
    """``None`` takes the key out, a list of several lines and a table of its own too."""
    new = change_backend(TEXT, "mac", {"models": None, "query": None, "zone": None})
    a, b = TEXT.index("models ="), TEXT.index("\n# who")
    assert new == TEXT[:a] + TEXT[b:]


def test_a_table_becomes_one_line() -> None:
    """A table below the backend is replaced by one in it; comments of others stay."""
    new = change_backend(TEXT, "mac", {"query": {"version": "2"}})
    assert new == TEXT.replace('  [backends.query]\n  version = "1"\n', 'query = {version = "2"}\n')


def test_removing_one() -> None:
    """It goes with the comment above it; the comments of others stay where they are."""
    new = remove_backend(TEXT, "mac")
    a, b = TEXT.index("# the small"), TEXT.index("# who goes")
    assert new == TEXT[:a] + TEXT[b:]
    last = remove_backend(new, "gpu")
    assert "backends" not in tomllib.loads(last)
    assert "# who goes where" in last
    assert "# the big one" not in last


def test_removing_from_a_list() -> None:
    """Where backends are one list, too."""
    new = remove_backend('backends = [{name="a"}, {name="b"}]\n', "a")
    assert tomllib.loads(new) == {"backends": [{"name": "b"}]}


def test_line_ends_and_marks_stay() -> None:
    """A file of Windows stays one, byte order mark and all."""
    text = "\ufeff" + TEXT.replace("\n", "\r\n")
    new = add_backend(text, {"name": "n"})
    assert new.startswith("\ufeff#")
    assert "\n" not in new.replace("\r\n", "")


def test_text_that_looks_like_a_table() -> None:
    """What stands in a string of several lines is no table."""
    text = '[[backends]]\nname = "a"\nzone = """\n[[backends]]\nname = "b"\n"""\nurl = "u"\n'
    new = change_backend(text, "a", {"url": "v"})
    assert new == text.replace('"u"', '"v"')
    with pytest.raises(EditError, match="names no backend 'b'"):
        remove_backend(text, "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", "not valid TOML"),
        ("[[backends]]\nname = 'x'\n", "names no backend 'gpu'"),
        ("", "names no backend 'gpu'"),
    ],
)
def test_what_cannot_be_done(text: str, message: str) -> None:
    """An error says why, and that nothing was saved."""
    with pytest.raises(EditError, match=message) as caught:
        change_backend(text, "gpu", {"priority": 1})
    assert "othing was saved" in str(caught.value)


@pytest.mark.parametrize("text", ["backends = 1", "backends = [1]", "[backends]", "backends = {}"])
def test_backends_that_are_no_tables(text: str) -> None:
    """Whatever a file calls backends, an edit of it ends in words."""
    with pytest.raises(EditError, match="no list of tables"):
        add_backend(text, {"name": "a"})
    with pytest.raises(EditError, match="no list of tables"):
        change_backend(text, "a", {"priority": 1})
    with pytest.raises(EditError, match="no list of tables"):
        remove_backend(text, "a")


@pytest.mark.parametrize(
    "line",
    [
        """zone = "'''" """,
        """zone = '\"\"\"' """,
        """zone = "a" # it's ''' here, and \"\"\" too""",
        'zone = """a\n[[backends]]\n\\""" \'\'\'\nb""""',
        "zone = '''\n[[backends]]\n\"\"\"\n'''",
        'zone = "\\\\" # """',
        'zone = ["""x""", "", """""", \'\', "\\""]',
    ],
)
def test_quotes_within_quotes(line: str) -> None:
    """What looks like the beginning of a string of several lines, and what hides headers."""
    text = f'[[backends]]\nname = "a"\n{line}\n\n[[backends]]\nname = "b"\n'
    zone = tomllib.loads(text)["backends"][0]["zone"]
    assert tomllib.loads(change_backend(text, "b", {"tier": 1}))["backends"] == [
        {"name": "a", "zone": zone},
        {"name": "b", "tier": 1},
    ]
    assert tomllib.loads(remove_backend(text, "a"))["backends"] == [{"name": "b"}]


def test_a_file_too_odd_is_left_alone() -> None:
    """Where an edit would do harm, it is refused."""
    text = '[[backends]]\nname = "a"\nmodels = [\n["x"]\n]\n'
    with pytest.raises(EditError, match="by hand"):
        change_backend(text, "a", {"models": None})


_NAMES = st.text("abc-_ .[]#\"'\\é\n", min_size=1, max_size=6)
_VALUES = st.one_of(
    st.integers(0, 99),
    st.booleans(),
    st.text("ab[]#\"'\\\n= é", max_size=8),
    st.lists(st.text('ab,"[]#', max_size=4), max_size=3),
    st.dictionaries(_NAMES, st.text('ab"\\\n', max_size=4), max_size=2),
)


@given(
    st.lists(st.dictionaries(_NAMES, _VALUES, max_size=4), max_size=3),
    st.dictionaries(_NAMES, st.one_of(st.none(), _VALUES), max_size=4),
    st.data(),
)
def test_what_is_edited_is_what_was_meant(
    tables: list[dict[str, Any]], changes: dict[str, Any], data: st.DataObject
) -> None:
    """Whatever names and values: after each edit the file holds the old and the change."""
    wanted = [{**table, "name": f"n{number}"} for number, table in enumerate(tables)]
    text = "# head\n[server]\nport = 1\n"
    for table in wanted:
        text = add_backend(text, table)
    assert tomllib.loads(text).get("backends", []) == wanted
    if wanted:
        number = data.draw(st.integers(0, len(wanted) - 1))
        changes.pop("name", None)
        text = change_backend(text, f"n{number}", changes)
        merged = {**wanted[number], **changes}
        wanted[number] = {key: value for key, value in merged.items() if value is not None}
        assert tomllib.loads(text)["backends"] == wanted
        text = remove_backend(text, f"n{number}")
        del wanted[number]
        assert tomllib.loads(text).get("backends", []) == wanted
    assert text.startswith("# head\n[server]\nport = 1\n")
