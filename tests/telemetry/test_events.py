"""The event log never waits, never raises, stays in its bounds and counts what it loses."""

import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ids_appliance.config import Events
from ids_appliance.errors import EventLogError
from ids_appliance.telemetry.events import EventLog
from tests.architecture.sources import ROOT

NOW = 1_700_000_000_123_456_789


@pytest.fixture
def opened(tmp_path):
    logs = []

    def opened(**settings) -> EventLog:
        logs.append(
            EventLog(
                Events(**settings),
                path=tmp_path / "state" / "events.jsonl",
                clock_ns=lambda: NOW,
                host="gw",
            )
        )
        return logs[-1]

    yield opened
    for log in logs:
        log.close()


def lines(path: Path) -> list[dict]:
    text = path.read_text("utf-8")
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def balanced(counters: dict[str, int]) -> bool:
    parts = ("written", "dropped", "lost", "waiting")
    return counters["log_emitted"] == sum(counters[f"log_{part}"] for part in parts)


def test_an_event_becomes_a_line(opened, tmp_path) -> None:
    log = opened()
    event_id = log.emit("trigger", src_ip="192.0.2.7", rule="port_scan", ports=20)
    assert log.flush(5)
    (event,) = lines(tmp_path / "state" / "events.jsonl")
    assert event == {
        "timestamp": "2023-11-14T22:13:20.123456+00:00",
        "event_type": "trigger",
        "event_id": event_id,
        "version": 1,
        "host": "gw",
        "src_ip": "192.0.2.7",
        "trigger": {"rule": "port_scan", "ports": 20},
    }
    assert log.events() == [event]
    assert log.counters()["log_written"] == 1


def test_ids_differ_also_between_threads(opened) -> None:
    log = opened()
    threads = [
        threading.Thread(target=lambda: [log.emit("stats") for _ in range(50)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.flush(5)
    assert len({event["event_id"] for event in log.events()}) == 200
    assert log.counters()["log_written"] == 200


def test_only_the_user_and_the_group_may_read(opened, tmp_path) -> None:
    log = opened()
    log.emit("health")
    assert log.flush(5)
    assert (tmp_path / "state" / "events.jsonl").stat().st_mode & 0o007 == 0


def test_rotation_keeps_so_many_of_that_size(opened, tmp_path) -> None:
    log = opened(rotate_mib=0.02, keep=2)
    for number in range(400):
        log.emit("stats", number=number, text="x" * 200)
        assert log.flush(5)
    found = {path.name: path for path in (tmp_path / "state").iterdir()}
    assert set(found) == {"events.jsonl", "events.jsonl.1", "events.jsonl.2"}
    assert all(path.stat().st_size <= 0.02 * (1 << 20) for path in found.values())
    order = ("events.jsonl.2", "events.jsonl.1", "events.jsonl")
    numbers = [e["stats"]["number"] for name in order for e in lines(found[name])]
    assert numbers == list(range(400 - len(numbers), 400)) and len(numbers) > 50
    assert log.counters()["log_rotations"] > 2 and balanced(log.counters())


def test_a_file_moved_away_is_made_anew(opened, tmp_path) -> None:
    log = opened()
    path = tmp_path / "state" / "events.jsonl"
    log.emit("stats", n=1)
    assert log.flush(5)
    path.rename(path.with_name("moved"))
    log.reopen()
    log.emit("stats", n=2)
    assert log.flush(5)
    assert [e["stats"]["n"] for e in lines(path.with_name("moved"))] == [1]
    assert [e["stats"]["n"] for e in lines(path)] == [2]
    # Also without being told.
    path.unlink()
    log.emit("stats", n=3)
    assert log.flush(5)
    assert [e["stats"]["n"] for e in lines(path)] == [3]


def test_the_half_line_of_a_crash_is_removed(opened, tmp_path) -> None:
    path = tmp_path / "state" / "events.jsonl"
    path.parent.mkdir()
    path.write_text('{"whole": 1}\n{"half": ')
    log = opened()
    log.emit("stats", n=1)
    assert log.flush(5)
    assert [*lines(path)[0]] == ["whole"] and lines(path)[1]["stats"] == {"n": 1}


def test_a_place_that_cannot_be_written_is_said_at_once(opened, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EventLogError, match="File exists; set events.file"):
        opened(file=str(tmp_path / "file" / "events.jsonl"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EventLogError, match="not a regular file"):
        opened(file=str(tmp_path / "pipe"))


class Gated:
    """Stands before the file's own writing and lets it through when told."""

    def __init__(self, log: EventLog) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        write = log._file.write

        def gated(data: bytes) -> int:
            self.reached.set()
            self.open.wait(60)
            return write(data)

        log._file.write = gated


def test_a_slow_disk_costs_the_oldest_and_is_told(opened, tmp_path) -> None:
    log = opened(queue=64)
    gate = Gated(log)
    log.emit("stats", n=0)
    assert gate.reached.wait(60)
    for n in range(1, 101):
        log.emit("stats", n=n)
    counters = log.counters()
    assert counters["log_dropped"] == 100 - 64 and balanced(counters)
    gate.open.set()
    assert log.flush(5)
    events = lines(tmp_path / "state" / "events.jsonl")
    assert [e["stats"]["n"] for e in events if "stats" in e] == [0, *range(37, 101)]
    (told,) = [e["health"] for e in events if "health" in e]
    assert told["what"] == "events_lost" and told["events"] == 36
    assert len(log.events()) == 102, "memory has them all"
    assert balanced(log.counters()) and log.counters()["log_waiting"] == 0


def test_large_lines_are_bounded_by_bytes_too(opened) -> None:
    log = opened(queue=1_000_000)
    gate = Gated(log)
    for _ in range(1700):
        log.emit("stats", rows=[["x" * 500] * 26])
    assert sum(map(len, log._queue)) <= 16 << 20
    assert log._queue_bytes == sum(map(len, log._queue)) and log.counters()["log_dropped"]
    assert sum(map(len, log.tail())) <= 1 << 20
    gate.open.set()


def test_followers_get_all_or_know_what_they_lost(opened) -> None:
    log = opened()
    woken = []
    fast = log.follow(wake=lambda: woken.append(1))
    slow = log.follow(queue=3)
    assert fast.take() == []
    for n in range(10):
        log.emit("stats", n=n)
    numbers = [json.loads(text)["stats"]["n"] for text in fast.take()]
    assert numbers == list(range(10)) and len(woken) == 10
    assert [json.loads(text)["stats"]["n"] for text in slow.take()] == [7, 8, 9]
    assert (slow.lost, fast.lost) == (7, 0)
    assert log.counters()["log_follower_lost"] == 7
    fast.close()
    fast.close()
    log.emit("stats")
    assert fast.take() == [] and len(slow.take()) == 1


def test_listeners_get_each_event_as_it_is_in_the_file(opened) -> None:
    log = opened()
    heard = []
    log.publish_to(heard.append)
    log.emit("window", id=1, secret="x")
    assert heard == log.events() and heard[0]["window"] == {"id": 1, "secret": "(hidden)"}


def test_a_follower_waits_for_the_next_event(opened) -> None:
    log = opened()
    follower = log.follow()
    got = []
    thread = threading.Thread(target=lambda: got.extend(follower.take(600)))
    thread.start()
    log.emit("window", id=1)
    thread.join(60)
    assert len(got) == 1
    waiting = threading.Thread(target=lambda: follower.take(600))
    waiting.start()
    log.close()
    waiting.join(60)
    assert not waiting.is_alive(), "closing ends the wait"


def test_the_tail_is_the_latest(opened) -> None:
    log = opened()
    for n in range(1100):
        log.emit("stats", n=n)
    assert [e["stats"]["n"] for e in log.events(3)] == [1097, 1098, 1099]
    assert len(log.events(5000)) == 1000 and log.events(0) == []


def test_after_the_end_nothing_is_written_and_nothing_raised(opened, tmp_path) -> None:
    log = opened()
    log.emit("stats")
    log.close()
    log.close()
    log.emit("stats")
    assert len(lines(tmp_path / "state" / "events.jsonl")) == 1
    assert log.counters()["log_dropped"] == 1 and balanced(log.counters())


FULL = """
import json, os, sys
from pathlib import Path
from ids_appliance.config import Events
from ids_appliance.telemetry.events import EventLog

def one(log, **fields):
    log.emit("stats", **fields)
    assert log.flush(10)

path = Path(sys.argv[1], "events.jsonl")
log = EventLog(Events(), path=path, clock_ns=lambda: 10**18, host="gw")
n = 0
while not log.counters()["log_lost"]:
    one(log, n=n, text="x" * 300)
    n += 1
assert log.problem == sys.argv[2], log.problem
for _ in range(20):
    one(log, text="x" * 300)
counters = log.counters()
whole = [json.loads(line) for line in path.read_text().splitlines()]
assert path.read_text().endswith("\\n") and len(whole) == counters["log_written"]
os.rename(path, path.with_name("old"))
{release}
one(log, n=-1)
log.close()
counters = log.counters()
told = [json.loads(line) for line in path.read_text().splitlines()]
assert told[0]["stats"]["n"] == -1, told
assert told[1]["health"]["what"] == "events_lost", told
assert told[1]["health"]["events"] == counters["log_lost"] >= 21
print("written", counters["log_written"], "lost", counters["log_lost"])
"""


def run_full(command: list[str], release: str, *arguments: str, **options) -> str:
    done = subprocess.run(
        [*command, sys.executable, "-c", FULL.format(release=release), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_limit_on_the_file_costs_lines_and_is_told_later(tmp_path) -> None:
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))  # noqa: E731
    out = run_full([], "", str(tmp_path), "File too large", preexec_fn=limit)
    assert "written" in out


@pytest.mark.net
def test_a_full_disk_costs_lines_and_is_told_later(tmp_path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a file system of 64 KiB")
    mount = 'mount -t tmpfs -o size=64k tmpfs "$0" && shift 0 && exec "$@"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, str(tmp_path)]
    release = 'os.unlink(path.with_name("old"))'
    assert "written" in run_full(command, release, str(tmp_path), "No space left on device")
    assert list(tmp_path.iterdir()) == [], "the mount was the child's own"


SLOW = """
import sys
from pathlib import Path
from ids_appliance.config import Events
from ids_appliance.telemetry.events import EventLog
log = EventLog(Events(file="-", queue=16), path=Path("x"), clock_ns=lambda: 10**18, host="gw")
for n in range(3000):
    log.emit("stats", n=n, text="x" * 400)
print(log.counters()["log_dropped"], file=sys.stderr, flush=True)
log.close()
print("ended", file=sys.stderr, flush=True)
"""


def test_a_reader_of_standard_output_that_sleeps_holds_up_nobody() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLOW], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout and child.stderr
        assert int(child.stderr.readline()) > 1000
        assert child.stderr.readline() == b"ended\n", "close gives up on it too"
        out = child.stdout.read()
        assert child.wait(60) == 0
    assert all(json.loads(line) for line in out.splitlines()[:-1])
