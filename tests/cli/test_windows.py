"""The `windows` command."""

import msgspec

from ids_appliance.gateway.actions import WindowInfo
from tests.gateway.running import NOON_NS, WINDOW


def test_a_window_is_a_line(live):
    heads, line = live.table("windows")
    assert heads.split()[0] == "id" and heads.split()[-1] == "cause"
    for part in ("3", "34 s", "123,456", "123,000", "812", "412", "port_scan 02:00:00:00:77"):
        assert part in line
    assert line.endswith("…")  # the cause is cut and says so; JSON has all of it
    assert live.json("windows")[0]["cause"] == WINDOW.cause


def test_an_open_one_says_so(live, monkeypatch):
    window = msgspec.structs.replace(WINDOW, closed_ns=0)
    monkeypatch.setattr(live.actions, "windows", lambda n: [window])
    assert " open " in live.table("windows")[1]


def test_great_numbers_fit(live, monkeypatch):
    n = 10**12
    window = WindowInfo(
        id=n, cause="x" * 99, opened_ns=NOON_NS, closed_ns=NOON_NS + n * n,
        packets=n, judged=n, votes=n, cells=n, decisions=n,
    )  # fmt: skip
    monkeypatch.setattr(live.actions, "windows", lambda n: [window, WINDOW])
    assert len(live.table("windows")) == 3


def test_how_many_is_asked_for_and_none_is_said(live, monkeypatch):
    live.table("windows", "-n", "7")
    assert live.actions.calls[-1] == ("windows", 7)
    live.actions.many = 0
    assert live.table("windows") == ["no window was opened since the gateway started"]
    assert live.json("windows") == []
