"""Lines for people: names in the place of addresses, never too long, colour only where wanted."""

from ids_appliance.lab.demo.timeline import COLUMNS, Timeline, named, tell, words
from tests.lab.demo.test_journal import ZERO, decided, event, window

NAMES = {"192.0.2.1": "gw", "192.0.2.11": "dev01", "02:00:00:00:00:66": "bot"}


def test_names_stand_for_whole_addresses_only() -> None:
    text = "192.0.2.11:80 and 192.0.2.1, not 192.0.2.113, not 1192.0.2.1; 02:00:00:00:00:66@p"
    assert named(text, NAMES) == ("dev01:80 and gw, not 192.0.2.113, not 1192.0.2.1; bot@p")
    assert named("gw 192.0.2.1", {"192.0.2.1": "x192.0.2.1"}) == "gw x192.0.2.1", "it ends"


def test_events_become_lines() -> None:
    trigger = event(1, "trigger", {"rule": "dos", "detail": "500 SYNs to 192.0.2.11:80"})
    assert tell(trigger, NAMES) == ("trigger", "dos: 500 SYNs to dev01:80")
    account = {"duration_s": 5.0, "why": "quiet", "packets": 1200, "judged": 1100}
    closed = window(6, 2, "closed", cells_asked=30, **account)
    kind, line = tell(closed, NAMES) or ("", "")
    assert kind == "window" and "1,200 packets, 1,100 judged in 30 cells" in line
    found = decided(2, "02:00:00:00:00:66@p", "applied")
    assert tell(found, NAMES) == ("kernel", "quarantine of bot@p is in the kernel")
    ended = decided(9, "02:00:00:00:00:66@p", "ended")
    assert tell(ended, NAMES) == ("gateway", "bot@p is free again")


def test_a_note_of_the_ledger_is_a_line() -> None:
    held = {"component": "ledger", "action": "held", "note": "paused"}
    assert tell(event(1, "health", held), NAMES) == ("gateway", "ledger: paused")


def test_what_only_machines_want_is_silent() -> None:
    assert tell(event(1, "stats", {"judged": 1}), NAMES) is None
    finding = event(1, "decision", {"action": "finding", "subject": "x"})
    assert tell(finding, NAMES) is None
    order = {"component": "order", "state": "done", "message": "release"}
    assert tell(event(1, "health", order), NAMES) is None


def test_lines_have_a_time_and_a_width() -> None:
    lines: list[str] = []
    timeline = Timeline(lines.append, lambda: ZERO, names=NAMES, colour=False)
    timeline.event(event(2.5, "trigger", {"rule": "dos", "detail": "x" * 200}))
    timeline.act("[1/2]", "  twin: hub", "a story")
    timeline.event(event(3, "stats", {}))
    assert lines[0].startswith("   2.50 s  trigger  dos: xxx") and len(lines[0]) == COLUMNS
    assert lines[1:] == ["", "   0.00 s  [1/2] twin: hub: a story"]


def test_colour_only_where_it_is_wanted() -> None:
    lines: list[str] = []
    coloured = Timeline(lines.append, lambda: ZERO, names={}, colour=True)
    coloured.say("bad", "not contained")
    assert lines[0].startswith("\x1b[31;1m") and lines[0].endswith("\x1b[0m")
    assert words("rate_limit") == "rate limit"
