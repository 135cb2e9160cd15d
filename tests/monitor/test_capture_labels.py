"""`monitor label`: what is said by hand, or by a scenario, is what training reads."""

import json
import struct
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ids_appliance.cli import main
from ids_appliance.train.corpus import read_corpus
from ids_appliance.train.labels import Label, read_labels
from tests.monitor.records import START_NS, head
from tests.net.packets import UDP, ethernet, ipv4, udp

MACS = (bytes.fromhex("020000000001"), bytes.fromhex("020000000002"))
BOT, VICTIM = "192.0.2.77", "198.51.100.77"


def frame(*, to_wan: bool) -> bytes:
    target, source = MACS if to_wan else MACS[::-1]
    ports = (1000, 9999) if to_wan else (9999, 1000)
    return ethernet(ipv4(UDP, udp(ports, b"x"), to_wan=to_wan, ident=1), target, source)


def write(path: Path, seconds: list[float], *, begin_ns: int = START_NS) -> Path:
    """Write a capture: at each second a frame of the bot's and the victim's answer to it."""
    data = head()
    for at in seconds:
        for to_wan in (True, False):
            time_ns = begin_ns + round(at * 1e9)
            body = frame(to_wan=to_wan)
            sizes = (len(body), len(body))
            data += struct.pack("=IIII", time_ns // 10**9, time_ns % 10**9, *sizes) + body
    path.write_bytes(data)
    return path


def label(*words: object) -> Result:
    return CliRunner().invoke(main, ["monitor", "label", *map(str, words)])


def done(*words: object) -> str:
    result = label(*words)
    assert result.exit_code == 0, result.output
    return result.output


def counted(folder: Path) -> dict[str, list[str]]:
    """Return each file's labels as training reads them, one letter a packet."""
    corpus = read_corpus(folder)
    found: dict[str, list[str]] = {}
    for report, which in zip(corpus.reports, range(len(corpus.reports)), strict=True):
        labels = corpus.labels[corpus.file == which]
        found[report.entry.file] = [Label(int(one)).name[0] for one in labels]
    return found


def clock(at: float) -> str:
    """Return the local time of a second of the capture as a clock shows it."""
    return f"{datetime.fromtimestamp(START_NS / 1e9 + at):%H:%M:%S.%f}"


ATTACK = ("--attack", "udp_flood", "--from", BOT, "--to", VICTIM, "--proto", "udp", "--port", 9999)


@pytest.mark.parametrize("form", ["clock", "iso", "offset"])
def test_an_attack_by_hand(tmp_path: Path, form: str) -> None:
    path = write(tmp_path / "a.pcap", [0.0, 3.0, 6.0, 20.0])
    begin = datetime.fromtimestamp(START_NS / 1e9).astimezone()
    during = {
        "clock": f"{clock(2.5)}..{clock(4)}",
        "iso": f"{begin.isoformat()}..{begin.replace(microsecond=0).isoformat()}",
        "offset": "+2.5..+4s",
    }[form]
    out = done(path, *ATTACK, "--during", during)
    # Answers count as related until five seconds after the end.
    expected = ["M", "R", "B", "R", "B", "R", "B", "B"] if form == "iso" else list("BBMRBRBB")
    expected = list("MRBRBBBB") if form == "iso" else expected
    assert counted(tmp_path) == {"a.pcap": expected}
    assert f"malicious {expected.count('M')} · related {expected.count('R')}" in out
    assert read_labels(tmp_path / "labels.json")[0].family == "udp_flood"


def test_files_of_a_folder_come_together(tmp_path: Path) -> None:
    done(write(tmp_path / "a.pcap", [0.0, 1.0, 20.0]), *ATTACK, "--during", "+0..+2")
    done(write(tmp_path / "b.pcap", [0.0]), "--ordinary", "--group", "home")
    done(tmp_path / "a.pcap", "--attack", "other", "--from", VICTIM, "--during", "+10..+30")
    assert counted(tmp_path) == {"a.pcap": list("MRMRRM"), "b.pcap": ["B", "B"]}
    done(tmp_path / "a.pcap", "--replace", "--attack", "other", "--from", VICTIM)
    assert counted(tmp_path)["a.pcap"] == list("RMRMRM")
    assert [e.group for e in read_labels(tmp_path / "labels.json")] == ["monitor", "home"]


def test_said_twice_is_said_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pcap", [0.0])
    done(path, *ATTACK)
    before = (tmp_path / "labels.json").read_text()
    done(path, *ATTACK)
    assert (tmp_path / "labels.json").read_text() == before


def test_of_a_ring_the_file_gets_the_attack_that_it_fell_into(tmp_path: Path) -> None:
    for n, name in enumerate(("a.pcap", "b.pcap", "c.pcap")):
        write(tmp_path / name, [0.0, 4.0], begin_ns=START_NS + n * 10 * 10**9)
    every = sorted(tmp_path.glob("*.pcap"))
    done(*every, *ATTACK, "--during", f"{clock(10)}..{clock(14)}")
    assert counted(tmp_path) == {
        "a.pcap": list("BBBB"), "b.pcap": list("MRMR"), "c.pcap": list("BBBB"),
    }  # fmt: skip


def test_by_mac(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pcap", [0.0])
    done(path, "--attack", "x", "--from", MACS[1].hex(":").upper())
    assert counted(tmp_path) == {"a.pcap": list("MR")}


def test_a_scenario_that_was_played_meanwhile(tmp_path: Path) -> None:
    """The lab's capture begins two seconds before ours; its rules move along with the clock."""
    lab = tmp_path / "lab"
    lab.mkdir()
    write(lab / "capture.pcap", [0.0, 9.0], begin_ns=START_NS - 2 * 10**9)
    when = {"t_min": 4.5, "t_max": 6.5}
    rules = [
        {"label": "malicious", "family": "syn_flood", "match": {"ip_src": [BOT], **when}},
        {"label": "malicious", "family": "gone", "match": {"ip_src": [BOT], "t_max": 1.0}},
    ]
    entry: dict[str, Any] = {"file": "capture.pcap", "rules": rules, "default": "benign"}
    (lab / "labels.json").write_text(json.dumps({"version": 1, "files": [entry]}))
    done(write(tmp_path / "a.pcap", [0.0, 3.0, 6.0]), "--scenario", lab)
    assert counted(tmp_path) == {"a.pcap": list("BBMBBB")}
    assert len(json.loads((tmp_path / "labels.json").read_text())["files"][0]["rules"]) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say one of"),
        (("--ordinary", "--attack", "x"), "say one of"),
        (("--attack", "x"), "who attacked"),
        (("--ordinary", "--from", BOT), "say more of an --attack"),
        (("--attack", "x", "--from", "bot"), "neither an address nor a MAC"),
        (("--attack", "x", "--from", "203.0.113.9"), "no frame is of that attack"),
        ((*ATTACK, "--during", "12:00"), "START..END"),
        ((*ATTACK, "--during", "noon..12:00:00"), "is no time"),
        ((*ATTACK, "--during", "+5..+1"), "ends before it begins"),
        ((*ATTACK, "--during", "2001-01-01T00:00..2001-01-02T00:00"), "before or after"),
        (("--scenario", "."), "no rules of one capture"),
    ],
)
def test_what_cannot_be_meant_changes_nothing(
    tmp_path: Path, words: tuple[object, ...], said: str
) -> None:
    path = write(tmp_path / "a.pcap", [0.0, 3.0])
    done(path, "--ordinary")
    before = (tmp_path / "labels.json").read_text()
    result = label(path, *words)
    assert result.exit_code == 2 and said in result.stderr, result.output
    assert result.stderr.count("\n") == 1
    assert (tmp_path / "labels.json").read_text() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pcap", "labels.json"]


def test_a_capture_that_has_changed_is_not_labelled_on(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pcap", [0.0])
    done(path, "--ordinary")
    write(path, [0.0, 1.0])
    result = label(path, *ATTACK)
    assert result.exit_code == 2 and "--replace" in result.stderr


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 1}', '{"version": 2, "files": []}'])
def test_labels_that_cannot_be_read_are_left_alone(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "a.pcap", [0.0])
    (tmp_path / "labels.json").write_text(text)
    result = label(path, "--ordinary")
    assert result.exit_code == 2 and "labels.json" in result.stderr.replace(".part", "")
    assert (tmp_path / "labels.json").read_text() == text


def test_a_capture_without_a_frame(tmp_path: Path) -> None:
    (tmp_path / "a.pcap").write_bytes(head())
    result = label(tmp_path / "a.pcap", "--ordinary")
    assert result.exit_code == 2 and "holds no frame" in result.stderr
