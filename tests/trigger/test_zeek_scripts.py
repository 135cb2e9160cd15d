"""Zeek's scripts without a Zeek: they parse, are formatted by zeek-format, and hang together."""

import io
import re
from pathlib import Path

import pytest
import zeekscript

from tests.trigger.zeek_cases import PACKAGE, TESTING

SCRIPTS = sorted((PACKAGE / "scripts").glob("*.zeek"))
TESTS = sorted((TESTING / "tests").glob("*.zeek"))


def parsed(path: Path) -> zeekscript.Script:
    script = zeekscript.Script(path)
    script.parse()
    return script


@pytest.mark.parametrize("path", SCRIPTS + TESTS, ids=lambda path: path.name)
def test_it_parses(path: Path) -> None:
    assert not parsed(path).has_error()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_it_is_formatted(path: Path) -> None:
    out = io.BytesIO()
    parsed(path).format(out)
    assert out.getvalue() == path.read_bytes(), f"run: zeek-format -i {path.name}"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_it_explains_itself_and_stays_small(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("##! ") or path.name == "__load__.zeek"
    assert len(text.splitlines()) <= 129
    assert max(len(line.expandtabs(4)) for line in text.splitlines()) <= 100


def test_all_are_loaded_and_nothing_else() -> None:
    loaded = re.findall(r"^@load (\S+)$", (PACKAGE / "scripts/__load__.zeek").read_text(), re.M)
    assert sorted(loaded) == sorted(f"./{p.stem}" for p in SCRIPTS if p.stem != "__load__")
    for path in SCRIPTS:
        for name in re.findall(r"^@load (\S+)$", path.read_text(), re.M):
            assert name.startswith("./"), f"{path.name} loads {name}: Zeek runs bare"


def test_what_must_not_be_used_is_not() -> None:
    # SumStats copies whole tables, notices are not a stream, processes under a flood are a lever.
    banned = re.compile(r"\b(SumStats|NOTICE|Notice::|Exec::|system\(|ActiveHTTP|raw_packet)")
    assert [path.name for path in SCRIPTS if banned.search(path.read_text())] == []


def test_every_table_that_frames_fill_has_a_cap() -> None:
    capped = re.compile(r"\|(\w+)\| (?:\+ \|\w+\| )?(?:>=|<) max_\w+")
    for path in SCRIPTS:
        text = path.read_text()
        tables = set(re.findall(r"^global (\w+): table\[", text, re.M))
        filled = {name for name in tables if re.search(rf"\b{name}\[[^\]]+\] = ", text)}
        held = {name for found in capped.findall(text) for name in (found,)}
        # The queues hold what the table of exchanges took in.
        assert filled - held <= {"pending", "opened"}, path.name
