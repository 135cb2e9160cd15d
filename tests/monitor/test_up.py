"""The published topology in one command: there, seen, mirrored once, unchanged, gone."""

import json

import pytest

from ids_appliance.monitor.read import example
from tests.monitor.enclosure import Dump, Enclosure, mark_the_end, ping
from tests.net.namespaces import wait_for

pytestmark = pytest.mark.net
H1, H2 = "192.168.1.222", "192.168.1.223"


def test_the_published_scenario_in_one_command(inside: Enclosure) -> None:
    before = inside.left()
    said = inside.up("s3")
    assert "+ cable par_s1h1 - eth1 in Host1, 192.168.1.222/24" in said
    assert set(inside.switch.vsctl("list-ports", "s1").split()) == {
        "par_s1h1",
        "par_s1h2",
        "par_s1M",
    }
    assert inside.switch.vsctl("get", "bridge", "s1", "protocols").strip() == "[OpenFlow13]"
    assert ping(inside, "Host1", H2), "the switch forwards"

    dumps = [Dump(inside, "Host1"), Dump(inside, "Monitor", direction="in")]
    assert ping(inside, "Host1", H2, count=20)
    mark_the_end(inside, "Host1", H2)
    at_host, at_monitor = (dump.frames() for dump in dumps)
    assert sum(at_host.values()) >= 40
    assert at_monitor == at_host, "every frame exactly once"

    first = picture(inside)
    assert inside.up("s3") == "nothing to change: it is up\n"
    assert picture(inside) == first

    def status() -> dict:
        return json.loads(inside.monitor("status", "--config", "s3", "--json").stdout)

    # The switch's own count is renewed every five seconds (ovs-vswitchd.conf.db(5)).
    wait_for(lambda: status()["mirrors"][0]["tx_packets"] >= 40)
    shown = status()
    assert shown["missing"] == []
    assert {row["name"]: row["joined"] for row in shown["hosts"]} == dict.fromkeys(
        ("Host1", "Host2", "Monitor"), True
    )
    table = inside.monitor("status", "--config", "s3").stdout
    assert "espejo" in table and "par_s1M" in table
    assert max(map(len, table.splitlines())) <= 100

    assert "- bridge s1" in inside.down("s3")
    assert inside.left() == before
    assert inside.down("s3") == "there was nothing to take away\n"


def picture(inside: Enclosure) -> tuple[str, ...]:
    """Return everything that a second `up` might have touched."""
    return (
        inside.links(),
        inside.switch.vsctl("--columns=_uuid,name,ports,mirrors", "list", "bridge"),
        inside.switch.vsctl("--columns=_uuid,name,interfaces", "list", "port"),
        inside.switch.vsctl("--columns=_uuid,name,output_port", "list", "mirror"),
        inside.run("ip", "-n", "Host1", "-4", "-oneline", "addr"),
        inside.run("ls", "-l", "--time-style=full-iso", "/run/ids-appliance-monitor"),
    )


@pytest.mark.nightly
def test_a_diff_tells_and_changes_nothing(inside: Enclosure) -> None:
    before = inside.left()
    said = inside.up("s3", "--diff")
    assert said.count("+ namespace") == 3 and "+ mirror espejo of s1" in said
    assert inside.left() == before
    inside.up("s3")
    assert inside.up("s3", "--diff") == "nothing would change\n"
    other = example("s3").replace("192.168.1.223/24", "192.168.1.233/24").replace(
        'source = ["Host1", "Host2"]', 'source = ["Host1"]'
    )  # fmt: skip
    assert inside.up(inside.config(other), "--diff").splitlines() == [
        "~ eth1 in Host2: addr del 192.168.1.223/24",
        "~ eth1 in Host2: addr replace 192.168.1.233/24 broadcast +",
        "~ mirror espejo of s1: from Host1 and to Host1, Host2, copied to Monitor",
    ]
    without = other.replace('"Host1", "Host2"', '"Host1"')
    start = without.index('[[hosts]]\nname = "Host2"')
    without = without[:start] + without[without.index('[[hosts]]\nname = "Monitor"') :]
    inside.up(inside.config(without))
    assert "Host2" not in inside.run("ip", "netns", "list")
    assert "par_s1h2" not in inside.switch.vsctl("show")
    assert inside.up(inside.config(without)) == "nothing to change: it is up\n"


DIRECTIONS = (
    ('source = ["Host1"]', {(H1, H2)}),
    ('destination = ["Host1"]', {(H2, H1)}),
    ('source = ["Host1"]\ndestination = ["Host1"]', {(H1, H2), (H2, H1)}),
    ('source = ["par_s1h2"]', {(H2, H1)}),
    ("all = true", {(H1, H2), (H2, H1)}),
)


@pytest.mark.parametrize(
    "directions",
    [DIRECTIONS[:2], pytest.param(DIRECTIONS, marks=pytest.mark.nightly)],
    ids=["from and to", "all"],
)
def test_directions_and_ports_of_a_mirror(
    inside: Enclosure, directions: tuple[tuple[str, set[tuple[str, str]]], ...]
) -> None:
    """Each selection is taken from the one before it, without taking anything down."""
    text = example("s3")
    begin = text.index('source = ["Host1"')
    end = text.index("output =", begin)
    for selection, expected in directions:
        inside.up(inside.config(f"{text[:begin]}{selection}\n{text[end:]}"))
        assert ping(inside, "Host1", H2)
        dump = Dump(inside, "Monitor", direction="in")
        assert ping(inside, "Host1", H2, count=3)
        # Both hosts, so that the marker is seen whatever is selected.
        mark_the_end(inside, "Host1", H2)
        mark_the_end(inside, "Host2", H1)
        frames = dump.frames()
        echoes = {frame: n for frame, n in frames.items() if frame[12:14] == b"\x08\x00"}
        assert set(echoes.values()) == {1}, selection
        seen = {(address(frame, 26), address(frame, 30)) for frame in echoes}
        assert seen == expected, selection
        assert len(echoes) == 3 * len(expected), selection


def address(frame: bytes, at: int) -> str:
    return ".".join(map(str, frame[at : at + 4]))


@pytest.mark.nightly
def test_hosts_in_vlans(inside: Enclosure) -> None:
    text = example("s3").replace('namespace = "Host1"', 'namespace = "Host1"\nvlan = 10')
    inside.up(inside.config(text))
    assert not ping(inside, "Host1", H2, wait_s=2), "Host2 is in no VLAN"
    both = text.replace('namespace = "Host2"', 'namespace = "Host2"\nvlan = 10')
    assert inside.up(inside.config(both)) == "~ port par_s1h2, VLAN 10\n"
    assert ping(inside, "Host1", H2)
    dump = Dump(inside, "Monitor", direction="in")
    assert ping(inside, "Host1", H2)
    mark_the_end(inside, "Host1", H2)
    frames = dump.frames()
    assert frames and {frame[12:16] for frame in frames} == {b"\x81\x00\x00\x0a"}
    assert inside.up(inside.config(text)) == "~ port par_s1h2, no VLAN\n"


def test_tcp_connects_over_the_userspace_datapath(inside: Enclosure) -> None:
    """Checksums that hardware would have made are made in the hosts."""
    inside.up("s3")
    features = inside.run("ip", "netns", "exec", "Host1", "ethtool", "-k", "eth1")
    assert "tx-checksumming: off" in features
    serve = "import socket; s = socket.create_server(('', 7777)); print(1, flush=True); s.accept()"
    server = inside.start("ip", "netns", "exec", "Host2", "python3", "-c", serve)
    try:
        assert server.stdout is not None and server.stdout.readline() == "1\n"
        call = f"import socket; socket.create_connection(('{H2}', 7777), 30)"
        inside.run("ip", "netns", "exec", "Host1", "python3", "-c", call)
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize(
    "break_it",
    [
        ("ip", "link", "del", "par_s1h1"),
        ("ip", "netns", "del", "Host1"),
        ("ovs-vsctl", "--timeout=10", "del-port", "par_s1M"),
        ("ovs-vsctl", "--timeout=10", "clear", "bridge", "s1", "mirrors"),
        ("ovs-vsctl", "--timeout=10", "del-br", "s1"),
        ("ip", "-n", "Host1", "link", "set", "eth1", "down"),
        ("ip", "netns", "exec", "Host1", "ethtool", "-K", "eth1", "tx", "on"),
    ],
    ids=" ".join,
)
@pytest.mark.nightly
def test_up_again_mends_what_was_broken(inside: Enclosure, break_it: tuple[str, ...]) -> None:
    inside.up("s3")
    inside.run(*break_it)
    inside.up("s3")
    dump = Dump(inside, "Monitor", direction="in")
    assert ping(inside, "Host1", H2)
    mark_the_end(inside, "Host1", H2)
    assert set(dump.frames().values()) == {1}
    assert inside.up("s3") == "nothing to change: it is up\n"
