"""The `why` command."""

import msgspec
import pytest

from ids_appliance.gateway.actions import WhyInfo
from tests.cli.asked import one_line
from tests.gateway.running import WHY


def test_everything_for_and_against_is_told(live):
    text = "\n".join(live.table("why", " 192.0.2.66 "))
    assert live.actions.calls == [("why", "192.0.2.66")]
    assert text.startswith(WHY.summary)
    for part in (
        "02:00:00:00:77:66@br-lan",
        "number 7, quarantine, another 7 m 12 s",
        "score 14.20 of 412 judged packets; a decision above 9.00, cleared below -8.00",
        "20 ports of 192.0.2.9, 95 %",
        "9f86d081884c7d65",
        "2.90",
        "proven",
        "rate_limit for 10 min, 2026-01-01 11:00",
    ):
        assert part in text, part
    assert "protected" not in text


def test_json_is_the_whole_answer(live):
    assert msgspec.convert(live.json("why", "192.0.2.66"), WhyInfo) == WHY


def test_somebody_harmless(live, monkeypatch):
    why = WhyInfo(
        asked="192.0.2.1", subject="192.0.2.1", summary="Nothing stands about it.",
        protected="default router", allowed="192.0.2.0/28 (lab)", doubted="192.0.2.2",
        ceiling="ceilings", others=2,
    )  # fmt: skip
    monkeypatch.setattr(live.actions, "why", lambda text: why)
    text = "\n".join(live.table("why", "192.0.2.1"))
    for part in ("default router", "192.0.2.0/28 (lab)", "192.0.2.2", "2 more senders match"):
        assert part in text
    assert "score" not in text and "trigger" not in text and "history" not in text


def test_bounds_that_are_not_known_are_dashes(live, monkeypatch):
    why = msgspec.structs.replace(WHY, upper=None, lower=None, cells=())
    monkeypatch.setattr(live.actions, "why", lambda text: why)
    assert "a decision above -, cleared below -" in "\n".join(live.table("why", "192.0.2.66"))


@pytest.mark.parametrize("text", ["", "  ", "a" * 201, "192.0.2.1\n", "\x1b[2J"])
def test_what_names_nobody_is_refused_here(live, text):
    if text.strip() == "192.0.2.1":
        assert live("why", text).exit_code == 0  # a blank at the end is no harm
        return
    assert "write an address" in one_line(live("why", text))
    assert live.actions.calls == []


def test_what_the_gateway_says_is_one_line(live):
    assert one_line(live("why", "192.0.2.200")) == "Error: nothing is known of 192.0.2.200"
