"""The `allow` commands."""

from tests.cli.asked import one_line


def test_the_list(live):
    heads, line = live.table("allow", "list")
    assert heads.split() == ["sender", "interface", "since", "comment"]
    assert line.split()[:2] == ["192.0.2.0/28", "br-lan"] and line.endswith("lab")
    assert live.json("allow", "list")["entries"][0]["text"] == "192.0.2.0/28"
    assert live.gateway.orders == []  # a question: the group may ask it
    live.actions.entries = ()
    assert live.table("allow", "list") == ["nobody is on the allow list"]


def test_adding_and_removing(live):
    given = live.ordered("allow", "add", "192.0.2.20", "--comment", "scanner")
    assert given == ("allow", "add", "192.0.2.20", "", "scanner")
    given = live.ordered("allow", "add", "02:00:5e:10:00:01", "--interface", "br-lan")
    assert given == ("allow", "add", "02:00:5e:10:00:01", "br-lan", "")
    given = live.ordered("allow", "remove", "192.0.2.20", "--interface", "br-lan")
    assert given == ("allow", "remove", "192.0.2.20", "br-lan", "")
    assert live.json("allow", "remove", "192.0.2.20")["message"] == "192.0.2.20: remove done"


def test_an_interface_that_cannot_be_is_one_line(live):
    done = live("allow", "add", "192.0.2.20", "--interface", "a" * 16)
    assert "not a request" in one_line(done)
    assert live.gateway.orders == []
