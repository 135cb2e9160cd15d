"""A ring of capture files: bounded, complete, listed; what a full disk and a crash do to it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ids_appliance.errors import CaptureError
from ids_appliance.monitor.ownership import Caller
from ids_appliance.monitor.rotation import Limits, Ring
from tests.monitor.records import head, numbers, record, stream

FILE_BYTES = 24 + 10 * 116
"""Ten records of 100 bytes."""


class Told:
    """Remembers events."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.figures: list[dict[str, int | str]] = []

    def __call__(self, what: str, detail: str, **figures: int | str) -> None:
        assert detail
        self.events.append(what)
        self.figures.append(figures)


def limits(**changed: float) -> Limits:
    values = {"file_bytes": FILE_BYTES, "files": 4, "every_s": 0.0, "keep_free_bytes": 0}
    return Limits(**(values | changed))  # type: ignore[arg-type]


def ring(
    directory: Path,
    set_to: Limits | None = None,
    *,
    told: Told | None = None,
    clock: Callable[[], float] = lambda: 0.0,
) -> Ring:
    me = Caller(os.geteuid(), os.getegid())
    return Ring(
        directory, "mon0", limits=set_to or limits(), caller=me, tell=told or Told(), clock=clock
    )


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("mon0-*.pcap"))


def verified(directory: Path) -> int:
    """Return how many files sha256sum itself finds right; it fails if one is wrong."""
    done = subprocess.run(
        ["sha256sum", "--strict", "--check", "SHA256SUMS"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.count(": OK")


@pytest.mark.parametrize("chunk", [1, 3, 10, 33])
def test_every_frame_once_in_files_of_bounded_size(tmp_path: Path, chunk: int) -> None:
    one = ring(tmp_path)
    for at in range(0, 33, chunk):
        one.put(*stream(*(record(n) for n in range(at, min(33, at + chunk)))))
    one.close()
    found = files(tmp_path)
    assert numbers(*found) == list(range(33))
    assert [path.stat().st_size for path in found] == [FILE_BYTES] * 3 + [24 + 3 * 116]
    assert verified(tmp_path) == 4
    assert (one.frames, one.discarded, one.finished) == (33, 0, 4)
    assert all(path.stat().st_mode & 0o077 == 0 for path in found)


def test_the_oldest_gives_way_and_leaves_the_list(tmp_path: Path) -> None:
    told = Told()
    one = ring(tmp_path, told=told)
    one.put(*stream(*(record(n) for n in range(75))))
    one.close()
    assert numbers(*files(tmp_path)) == list(range(40, 75))
    assert verified(tmp_path) == 4
    assert one.gave_way == 0 and told.events == []


def test_a_frame_greater_than_a_file_has_one_of_its_own(tmp_path: Path) -> None:
    one = ring(tmp_path)
    one.put(*stream(record(0), record(1, 5000), record(2)))
    one.close()
    assert [numbers(path) for path in files(tmp_path)] == [[0], [1], [2]]


def test_age_finishes_a_file_without_another_frame(tmp_path: Path) -> None:
    now = [100.0]
    one = ring(tmp_path, limits(every_s=60.0), clock=lambda: now[0])
    one.put(*stream(record(0)))
    now[0] = 159.0
    one.tick()
    assert files(tmp_path) == []
    now[0] = 160.0
    one.tick()
    assert numbers(*files(tmp_path)) == [0] and verified(tmp_path) == 1
    one.put(*stream(record(1)))
    one.close()
    assert [numbers(path) for path in files(tmp_path)] == [[0], [1]]


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    for n in range(6):
        one = ring(tmp_path)
        one.put(*stream(record(n)))
        one.close()
    names = [path.name.split("-")[1] for path in files(tmp_path)]
    assert names == ["000003", "000004", "000005", "000006"]
    assert numbers(*files(tmp_path)) == [2, 3, 4, 5] and verified(tmp_path) == 4


@pytest.mark.parametrize("cut", [0, 1, 15, 16, 100])
def test_what_a_killed_capture_left_is_finished_without_half_a_frame(
    tmp_path: Path, cut: int
) -> None:
    tmp_path.joinpath("mon0-000007-20260101T000000Z.pcap.part").write_bytes(
        head() + record(0) + record(1) + record(2)[: 116 - cut]
    )
    one = ring(tmp_path)
    one.put(*stream(record(3)))
    one.close()
    kept = [0, 1, 2] if cut == 0 else [0, 1]
    assert [numbers(path) for path in files(tmp_path)] == [kept, [3]]
    assert verified(tmp_path) == 2 and not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("left", [b"", head(), head()[:10], b"something else".ljust(99)])
def test_what_holds_no_frame_is_removed(tmp_path: Path, left: bytes) -> None:
    tmp_path.joinpath("mon0-000007-20260101T000000Z.pcap.part").write_bytes(left)
    ring(tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == ["SHA256SUMS"]


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    others = ["notes.txt", "eth0-000001-20260101T000000Z.pcap", "mon0-1.pcap"]
    for name in others:
        tmp_path.joinpath(name).write_text("mine")
    one = ring(tmp_path, limits(files=1))
    one.put(*stream(*(record(n) for n in range(40))))
    one.close()
    assert all(tmp_path.joinpath(name).read_text() == "mine" for name in others)


def test_two_captures_do_not_share_a_directory(tmp_path: Path) -> None:
    first = ring(tmp_path)
    with pytest.raises(CaptureError, match="its own directory"):
        ring(tmp_path)
    first.close()
    ring(tmp_path).close()


def test_an_interface_name_cannot_leave_the_directory(tmp_path: Path) -> None:
    me = Caller(os.geteuid(), os.getegid())
    one = Ring(
        tmp_path / "in", "../../x", limits=limits(), caller=me, tell=Told(), clock=lambda: 0.0
    )
    one.put(*stream(record(0)))
    one.close()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert len(list((tmp_path / "in").glob("*.pcap"))) == 1


BIG = 24 + 32 * 1016
"""A file of 32 KiB, 32 records of 1,000 bytes."""


def some(low: int, high: int) -> Iterator[tuple[object, bytes, list[int]]]:
    for n in range(low, high):
        yield stream(record(n, 1000))


@pytest.mark.net
def test_on_a_full_disk_the_ring_shrinks_and_says_so_once(small_disk: Path) -> None:
    told = Told()
    one = ring(small_disk, limits(file_bytes=BIG, files=100), told=told)
    for chunk in some(0, 1000):
        one.put(*chunk)  # type: ignore[arg-type]
    one.close()
    found = numbers(*files(small_disk))
    assert found == list(range(found[0], 1000)) and 100 < len(found) < 256
    assert (one.frames, one.discarded) == (1000, 0) and one.gave_way > 0
    assert told.events == ["capture_ring_shrinks"]
    assert verified(small_disk) == len(files(small_disk))


@pytest.mark.net
def test_room_is_left_to_others(small_disk: Path) -> None:
    told = Told()
    set_to = limits(file_bytes=BIG, files=100, keep_free_bytes=100_000)
    one = ring(small_disk, set_to, told=told)
    for chunk in some(0, 500):
        one.put(*chunk)  # type: ignore[arg-type]
        disk = os.statvfs(small_disk)
        # A page and the list of checksums come on top.
        assert disk.f_bavail * disk.f_frsize > 100_000 - 16_384
    one.close()
    assert one.discarded == 0 and told.events == ["capture_ring_shrinks"]


@pytest.mark.net
def test_others_fill_the_disk_and_make_room_again(small_disk: Path) -> None:
    told = Told()
    one = ring(small_disk, limits(file_bytes=BIG, files=3), told=told)
    for chunk in some(0, 40):
        one.put(*chunk)  # type: ignore[arg-type]
    other = small_disk / "other"
    with other.open("wb", buffering=0) as file:
        while True:
            try:
                if file.write(b"x" * 4096) < 4096:
                    break
            except OSError:
                break
        for chunk in some(40, 300):
            one.put(*chunk)  # type: ignore[arg-type]
            try:  # whatever the ring frees is taken at once
                file.write(b"x" * 65536)
            except OSError:
                continue
    lost = one.discarded
    assert lost > 0 and one.frames + lost == 300
    other.unlink()
    for chunk in some(300, 400):
        one.put(*chunk)  # type: ignore[arg-type]
    one.close()
    assert one.discarded == lost and one.frames + lost == 400
    assert numbers(*files(small_disk))[-60:] == list(range(340, 400))
    assert verified(small_disk) == len(files(small_disk))
    assert told.events[0] == "capture_ring_shrinks" and "capture_discards" in told.events
    counted = [f["frames"] for e, f in zip(told.events, told.figures, strict=True)
               if e == "capture_discarded"]  # fmt: skip
    assert sum(map(int, counted)) == lost
    assert told.events[-1] == "capture_ring_grows" or "capture_ring_grows" in told.events
