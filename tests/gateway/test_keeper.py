"""The state file's own thread: the latest snapshot wins, a full disk is told of once."""

import threading
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from ids_appliance.gateway.keeper import Keeper
from ids_appliance.policy.kept import Snapshot


@dataclass
class Clocks:
    wall: int = 1_800_000_000 * 10**9

    def wall_ns(self) -> int:
        return self.wall


def test_saved_and_loaded(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, clocks=Clocks())
    assert keeper.load() is None
    keeper.save(Snapshot(next_number=7))
    keeper.close()
    keeper.close()
    again = Keeper(tmp_path, clocks=Clocks(wall=0))
    found = again.load()
    assert found is not None and found.snapshot is not None
    assert found.snapshot.next_number == 7
    assert 0 <= found.elapsed_s < 60 and again.notes() == []  # the same boot: no wall clock asked
    again.close()


def test_of_those_that_wait_only_the_latest_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Keeper(tmp_path, clocks=Clocks())
    gate, began = threading.Event(), threading.Event()
    save = keeper._store.save

    def slow(*args: object) -> None:
        began.set()
        gate.wait(60)
        save(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(keeper._store, "save", slow)
    keeper.save(Snapshot(next_number=1))
    assert began.wait(60)
    for number in range(2, 1000):
        keeper.save(Snapshot(next_number=number))
    gate.set()
    keeper.close()
    assert keeper.saved == 2
    written = msgspec.json.decode((tmp_path / "decisions.json").read_bytes())
    assert written["next_number"] == 999


def test_a_disk_that_does_not_take_it_is_told_of_once(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    keeper = Keeper(tmp_path / "state", clocks=Clocks())
    for _ in range(3):
        keeper.save(Snapshot())
        keeper._pool.submit(lambda: None).result()
    (note,) = keeper.notes()
    assert "cannot be saved" in note and keeper.failing  # so the loop goes on trying
    assert keeper.problem == note
    (tmp_path / "state").unlink()
    keeper.save(Snapshot())
    keeper.close()
    assert keeper.notes() == ["decisions are saved again"] and not keeper.failing
    assert keeper.problem == ""


def test_a_damaged_file_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "decisions.json").write_text("{")
    keeper = Keeper(tmp_path, clocks=Clocks())
    assert keeper.load() is None
    assert "set aside" in keeper.notes()[0]
    keeper.close()


def test_what_is_a_bug_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = Keeper(tmp_path, clocks=Clocks())

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(keeper._store, "save", broken)
    keeper.save(Snapshot())
    with pytest.raises(ZeroDivisionError):
        keeper.close()
