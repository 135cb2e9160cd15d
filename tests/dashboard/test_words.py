"""Texts from the network on the page: shown letter by letter, whatever they are made of."""

import re

import pytest

from ids_appliance.dashboard.words import MAX_TEXT, ago, literal, plain

HOSTILE = "*bold* [x](y) `z` :red[r] $m$ <b>t</b> &amp; # - 1. | ~~s~~ {c} ^u ![i](j)"
# What GitHub's Markdown makes links of, backslashes before its letters or not.
LINKED = re.compile(r"https?://|www\.|@[\w-]+\.", re.IGNORECASE)


def shown(text: str) -> str:
    """What a reader sees of Markdown whose every mark has a backslash."""
    return re.sub(r"\\(.)", r"\1", text)


def test_every_mark_of_markdown_is_a_letter():
    found = literal(HOSTILE)
    assert shown(found) == HOSTILE
    assert re.search(r"(?<!\\)[*_\[\]()`#<>~$:&{}|!^]", found) is None


@pytest.mark.parametrize(
    "text",
    ["see https://evil.example/x", "HTTP://evil.example", "www.evil.example", "me@evil.example"],
)
def test_nothing_becomes_a_link_by_itself(text):
    assert LINKED.search(text)
    assert LINKED.search(shown(literal(text))) is None
    assert shown(literal(text)).replace("\u200b", "") == text


def test_a_sender_can_be_copied():
    whom = "02:00:5e:10:00:01@br-lan"
    assert shown(literal(whom)) == whom


def test_nothing_hides_or_turns_the_writing_around():
    assert plain("a\x1b[31m\u202eb\u200bc\n") == "a?[31m?b?c?"
    assert len(plain("x" * 1000)) == MAX_TEXT and plain("x" * 1000).endswith("…")


@pytest.mark.parametrize(
    ("seconds", "text"), [(4, "4 s"), (5400, "1 h 30 min"), (90_061, "1 d 1 h"), (-1, "0 s")]
)
def test_spans_are_told_in_their_two_greatest_units(seconds, text):
    assert ago(seconds) == text
