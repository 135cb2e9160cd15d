"""Tables of any content stay within a terminal and cannot steer it."""

import contextlib
import io

from hypothesis import given
from hypothesis import strategies as st

from ids_appliance.cli.screens import Cell, clean, cut, moment, show_fields, show_table

TEXT = st.text(max_size=150)


def printed(show, *arguments, **options) -> list[str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        show(*arguments, **options)
    return out.getvalue().split("\n")[:-1]


@given(st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT), max_size=5))
def test_any_table_fits(rows):
    rows = [(Cell(a, "red"), b, c, d) for a, b, c, d in rows]
    lines = printed(show_table, ("a", "number", "c", "d"), rows, right="number")
    assert len(lines) == len(rows) + 1
    assert max(map(len, lines)) <= 100
    assert all(line.isprintable() for line in lines)


@given(st.lists(st.tuples(st.sampled_from(["a", "long name"]), TEXT), min_size=1, max_size=5))
def test_any_fields_fit(fields):
    lines = printed(show_fields, fields)
    assert max(map(len, lines), default=0) <= 100
    assert all(line.isprintable() for line in lines)


def test_numbers_are_aligned_at_the_right():
    lines = printed(show_table, ("name", "n"), [("a", "1"), ("b", "1,000")], right="n")
    assert lines == ["name      n", "a         1", "b     1,000"]


def test_what_steers_a_terminal_is_replaced():
    assert clean("a\x1b[31m\x9b\x07\u202e\u200b\n\tb") == "a?[31m????" + "??b"


def test_what_is_cut_says_so():
    assert cut("12345", 5) == "12345" and cut("123456", 5) == "1234…"


def test_moments_that_are_none():
    assert moment(0) == "-" and moment(-1) == "-" and moment(2**63 * 1000) == "?"
    assert len(moment(1_767_268_800_000_000_000)) == 19
