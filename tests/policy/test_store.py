"""What outlives a restart: the same decisions with less time, and nothing that the file invents."""

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ids_appliance.config import Enforce
from ids_appliance.errors import StateError
from ids_appliance.policy.kept import Snapshot, restore, snapshot
from ids_appliance.policy.store import Moment, Store
from ids_appliance.types import Response
from tests.policy.ledgers import S, World, device, flood, ip, lan, mac, wan

NOW = Moment(wall_ns=1_800_000_000 * S, boot_id="boot-1", boot_ns=5000 * S)


def later(seconds: float, *, wall: float | None = None, boot: str = "boot-1") -> Moment:
    wall_s = seconds if wall is None else wall
    return Moment(NOW.wall_ns + int(wall_s * S), boot, NOW.boot_ns + int(seconds * S))


@pytest.fixture
def world() -> World:
    world = World()
    world.found(lan(5), "port_scan", address=ip("192.0.2.5"))
    world.found(lan(6))
    world.found(wan("198.51.100.7"), "port_scan", standing=0)
    world.found(flood("192.0.2.5"), "dos")
    world.ledger.allow_add("198.51.100.99", comment="the scanner")
    return world


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state")


def through(world: World, store: Store, moment: Moment, at: Moment = NOW) -> Any:
    """Save, and take up in an empty ledger of the same network at another moment."""
    store.save(snapshot(world.ledger), at)
    loaded = store.load(moment)
    assert loaded.snapshot is not None
    fresh = World(policy=world.policy, enforce=world.enforce, now=7 * S)
    return fresh, restore(fresh.ledger, loaded.snapshot, elapsed_s=loaded.elapsed_s), loaded


def test_the_same_set_with_less_time(world: World, store: Store) -> None:
    fresh, restored, _ = through(world, store, later(100))
    assert restored.notes == (
        "4 decisions are taken up again, 0 have ended in the 1.67 min since they were saved",
    )
    before = {r.decision.subject: r for r in world.ledger.decisions()}
    for row in fresh.ledger.decisions():
        old = before.pop(row.decision.subject)
        assert row.decision == old.decision and row.would is old.would
        assert row.remaining_s == pytest.approx(old.remaining_s - 100)
    assert before == {}
    assert {d.duration_s for d in restored.decisions} == {500.0}
    assert [str(e) for e in fresh.ledger.allow_list()] == ["198.51.100.99 (the scanner)"]


def test_numbers_go_on(world: World, store: Store) -> None:
    highest = max(r.decision.number for r in world.ledger.decisions())
    fresh, _, _ = through(world, store, later(10_000))
    (made,) = fresh.found(lan(7), "port_scan")
    assert made.number > highest


def test_a_quarantine_that_ended_meanwhile_is_on_probation(world: World, store: Store) -> None:
    fresh, restored, _ = through(world, store, later(900))
    assert restored.decisions == ()
    (milder,) = fresh.later(0)
    assert (milder.subject, milder.response) == (device(5), Response.RATE_LIMIT)
    assert milder.duration_s == pytest.approx(300)


def test_offences_are_remembered(world: World, store: Store) -> None:
    fresh, _, _ = through(world, store, later(5000))
    (made,) = fresh.found(lan(5), "port_scan")
    assert made.duration_s == 3600.0
    fresh, _, _ = through(world, store, later(5000 + 1_209_600))
    (made,) = fresh.found(lan(5), "port_scan")
    assert made.duration_s == 600.0


def test_the_pause_and_the_breaker_go_on(store: Store) -> None:
    world = World()
    for n in range(10, 17):
        world.found(wan(f"198.51.100.{n}"), "port_scan")
    world.ledger.pause(200)
    fresh, restored, _ = through(world, store, later(150))
    assert restored.decisions == () and fresh.ledger.held_because() == "paused"
    fresh.later(50)
    assert fresh.ledger.held_because().startswith("breaker")
    fresh.later(700)
    assert fresh.ledger.held_because() == ""


def test_enforce_by_hand_outlives_a_restart_but_not_a_later_configuration(store: Store) -> None:
    world = World(enforce=Enforce())
    world.ledger.enforce(True)
    world.found(lan(5), "port_scan")
    fresh, restored, _ = through(world, store, later(1))
    assert fresh.ledger.enforcing and len(restored.decisions) == 1
    world.enforce = Enforce(enabled=True)
    fresh, _, _ = through(world, store, later(1))
    assert fresh.ledger.enforcing
    world = World()
    world.found(lan(5), "port_scan")
    world.enforce = Enforce()  # somebody has edited the file since
    fresh, restored, _ = through(world, store, later(1))
    assert not fresh.ledger.enforcing and restored.decisions == ()
    assert any("enforcement is off" in note for note in restored.notes)


def test_pins_outlive_a_start_under_attack(world: World, store: Store) -> None:
    fresh, _, _ = through(world, store, later(1))
    assert fresh.protection.pins[("lan0", ip("192.0.2.1"))] == mac(1)


# How long it was away ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "elapsed_s", "doubt"),
    [
        (later(100, wall=-9999), 100.0, ""),  # the same boot: the wall clock is not asked
        (later(100, wall=10**9), 100.0, ""),
        (Moment(NOW.wall_ns, "boot-1", 0), 0.0, ""),
        (later(3, wall=100, boot="boot-2"), 100.0, ""),
        (later(3, wall=-5, boot="boot-2"), 0.0, "behind"),  # no battery-backed clock
        (Moment(0, "boot-2", 0), 0.0, "behind"),
        (later(3, wall=20 * 365 * 86_400, boot="boot-2"), 0.0, "20 years"),
        (later(3, wall=100, boot=""), 100.0, ""),
    ],
)
def test_elapsed(store: Store, moment: Moment, elapsed_s: float, doubt: str) -> None:
    store.save(Snapshot(), NOW)
    loaded = store.load(moment)
    assert loaded.elapsed_s == pytest.approx(elapsed_s)
    assert doubt in loaded.note and bool(doubt) == bool(loaded.note)


def test_without_a_boot_id_only_the_wall_clock_counts(store: Store) -> None:
    store.save(Snapshot(), Moment(NOW.wall_ns, "", 5000 * S))
    assert store.load(Moment(NOW.wall_ns + 60 * S, "", 9999 * S)).elapsed_s == 60.0


# The file ----------------------------------------------------------------------------------------


def test_the_file_is_ours_alone_and_nothing_lies_beside_it(store: Store) -> None:
    store.save(Snapshot(), NOW)
    store.save(Snapshot(), NOW)
    assert os.listdir(store.path.parent) == ["decisions.json"]
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_crash_while_writing_leaves_the_old_one(store: Store, world: World) -> None:
    store.save(snapshot(world.ledger), NOW)
    store.path.with_name(".decisions.json.new").write_text('{"version": 1, "deci')
    kept = store.load(NOW).snapshot
    assert kept is not None and len(kept.decisions) == 4
    store.save(Snapshot(), NOW)  # and what was left does not stand in the way
    assert os.listdir(store.path.parent) == ["decisions.json"]


def test_no_link_is_followed(store: Store, tmp_path: Path) -> None:
    store.path.parent.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    store.path.with_name(".decisions.json.new").symlink_to(victim)
    store.save(Snapshot(), NOW)
    store.path.unlink()
    store.path.symlink_to(victim)
    assert "symbolic link" in store.load(NOW).note
    assert victim.read_text() == "precious"


def test_no_file_is_no_news(store: Store) -> None:
    loaded = store.load(NOW)
    assert (loaded.snapshot, loaded.note) == (None, "")


DAMAGED = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"\xff\xfe\0",
    b'{"version": 2, "saved_wall_ns": 0, "saved_boot_ns": 0, "boot_id": ""}',
    b'{"version": 1}',
    b'{"version": 1, "saved_wall_ns": -5, "saved_boot_ns": 0, "boot_id": ""}',
    b'{"version": 1, "saved_wall_ns": 0, "saved_boot_ns": 0, "boot_id": "", "paused_s": 1e999}',
    b'{"version": 1, "saved_wall_ns": 0, "saved_boot_ns": 0, "boot_id": "", "decisions": {}}',
    b'{"version": 1, "decisions": ' + b"[" * 100_000,
    b'{"x": ' + b'{"a":' * 100_000,
]


@pytest.mark.parametrize("data", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_is_set_aside_and_life_goes_on(store: Store, data: bytes) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(data)
    loaded = store.load(NOW)
    assert loaded.snapshot is None and "\n" not in loaded.note
    assert "set aside as decisions.json.damaged-1" in loaded.note
    assert store.path.with_name("decisions.json.damaged-1").read_bytes() == data
    store.save(Snapshot(), NOW)
    assert store.load(NOW).snapshot is not None


def test_what_is_set_aside_is_bounded(store: Store) -> None:
    store.path.parent.mkdir()
    for n in range(15):
        store.path.write_text(f"damaged {n}")
        store.load(NOW)
    assert len(os.listdir(store.path.parent)) == 9
    assert store.path.with_name("decisions.json.damaged-9").read_text() == "damaged 14"


def test_a_file_that_others_may_write_to_is_not_believed(store: Store) -> None:
    store.save(Snapshot(), NOW)
    store.path.chmod(0o666)
    assert "others may write" in store.load(NOW).note


def test_a_directory_or_a_fifo_is_no_state(store: Store) -> None:
    store.path.parent.mkdir()
    os.mkfifo(store.path)
    assert "not a file" in store.load(NOW).note
    store.path.mkdir()
    assert store.load(NOW).note


def test_a_huge_file_is_not_read(store: Store) -> None:
    store.path.parent.mkdir()
    with store.path.open("wb") as file:
        file.truncate(65 * 2**20)
    assert "larger than 64 MiB" in store.load(NOW).note


def test_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be saved to"):
        Store(tmp_path / "file" / "state").save(Snapshot(), NOW)


# Hostile elements --------------------------------------------------------------------------------


def good(**fields: Any) -> dict[str, Any]:
    subject = {"kind": "mac", "value": "020000000005", "interface": "lan0"}
    made: dict[str, Any] = {
        "number": 3,
        "subject": subject,
        "response": "quarantine",
        "would": "quarantine",
        "duration_s": 600.0,
        "remaining_s": 500.0,
        "age_s": 100.0,
        "reason": "port_scan",
        "timestamp_ns": 1,
        "score": 9.0,
    }
    return made | fields


def taken(*rows: Any, world: World | None = None) -> tuple[World, Any]:
    world = world or World()
    kept = Snapshot(
        enforcing=True,
        configured=True,
        decisions=[msgspec.Raw(json.dumps(row).encode()) for row in rows],
    )
    return world, restore(world.ledger, kept, elapsed_s=1.0)


def test_a_good_element_is_taken() -> None:
    world, restored = taken(good())
    assert [d.subject for d in restored.decisions] == [device(5)]
    assert restored.decisions[0].duration_s == 499.0


@pytest.mark.parametrize(
    "row",
    [
        None,
        [],
        "quarantine everybody",
        {},
        good(extra=1),
        good(number=-1),
        good(number=2**60),
        good(number=1.5),
        good(response="execute"),
        good(response=3),
        good(duration_s=1e300),
        good(duration_s=0),
        good(remaining_s=601.5),
        good(remaining_s="500"),
        good(age_s=None),
        good(reason="x" * 5000),
        good(reason=["x"]),
        good(address="zz"),
        good(address="0102"),
        good(would="observe"),
        good(count=0),
        good(subject=None),
        good(subject={"kind": "mac", "value": "0200", "interface": "lan0"}),
        good(subject={"kind": "everybody", "value": ""}),
        good(subject={"kind": "ipv4", "value": "c6336407", "port": 80}),
        good(subject={"kind": "flood", "value": "c6336407"}),
        good(subject={"kind": "ipv4", "value": "c6336407", "interface": "x" * 99}),
    ],
    ids=str,
)
def test_what_this_program_never_wrote_is_left_out_alone(row: Any) -> None:
    other = good(subject={"kind": "ipv4", "value": "c6336407"}, number=4)
    world, restored = taken(row, other)
    assert [d.number for d in restored.decisions] == [4]
    assert any("not as written by this program" in note for note in restored.notes)


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        ({"kind": "mac", "value": "020000000001", "interface": "lan0"}, "default router"),
        ({"kind": "mac", "value": "0200000000fe", "interface": "lan0"}, "our own MAC"),
        ({"kind": "ipv4", "value": "c6336435"}, "DNS server"),
        ({"kind": "ipv4", "value": "7f000001"}, "loopback"),
        ({"kind": "ipv6", "value": "0000000000000000"}, "loopback"),
    ],
)
def test_a_protected_subject_inside_is_refused(subject: dict[str, str], why: str) -> None:
    world, restored = taken(good(subject=subject))
    assert restored.decisions == () and world.ledger.decisions() == []
    assert any(why in note for note in restored.notes)


def test_who_may_be_an_administrator_is_not_cut_off_again() -> None:
    _, restored = taken(good(address="c000020a"))  # nobody was seen with 192.0.2.10 yet
    assert restored.decisions == () and any("administrator" in n for n in restored.notes)


def test_the_same_subject_twice_stands_once() -> None:
    twin = good(number=4, subject=good()["subject"] | {"proven": False})
    world, restored = taken(good(), twin)
    assert len(restored.decisions) == 1
    assert any("stands already" in note for note in restored.notes)


def test_a_ceiling_that_came_down_binds() -> None:
    world = World(enforce=Enforce(enabled=True, ceiling="rate_limit"))
    _, restored = taken(good(), good(number=4, by_hand=True), world=world)
    assert [d.number for d in restored.decisions] == [4]


def test_more_than_the_table_holds_is_left_out() -> None:
    rows = [good(number=n, subject={"kind": "ipv4", "value": f"c633{n:04x}"}) for n in range(1, 40)]
    world = World()
    world.policy = msgspec.structs.replace(world.policy, max_decisions=16)
    world.ledger = world.another()
    _, restored = taken(*rows, world=world)
    assert len(world.ledger.decisions()) == 16
    assert any("23 elements" in note and "too many" in note for note in restored.notes)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(good())), json_values), max_size=3))
def test_any_change_of_an_element_is_survived(changes: list[tuple[str, Any]]) -> None:
    world, restored = taken(good(**dict(changes)))
    for row in world.ledger.decisions():
        assert row.decision.subject == device(5) and 0 <= row.remaining_s <= 600


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 2000))
def test_any_file_is_survived(tmp_path_factory: Any, noise: bytes, at: int) -> None:
    store = Store(tmp_path_factory.mktemp("state"))
    world = World()
    world.found(lan(5), "port_scan")
    store.save(snapshot(world.ledger), NOW)
    data = bytearray(store.path.read_bytes())
    data[at : at + len(noise)] = noise
    store.path.write_bytes(data)
    store.path.chmod(0o600)
    loaded = store.load(NOW)
    if loaded.snapshot is not None:
        restore(World().ledger, loaded.snapshot, elapsed_s=loaded.elapsed_s)
