"""The same captures, the same triggers: our screen and Zeek against one table, and each other."""

import gzip
import ipaddress
import json
import os
import re
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from ids_appliance._features import HostIdentity
from ids_appliance._screen import Screen
from ids_appliance.capture.file import CaptureFile
from ids_appliance.config import Trigger
from ids_appliance.trigger import embedded
from ids_appliance.trigger.zeek import RULES
from ids_appliance.trigger.zeek_settings import Sight, redefs
from tests.ext.screening import batch
from tests.ext.traffic import GATEWAY4, GATEWAY6, GATEWAY_MAC
from tests.trigger.zeek_cases import PACKAGE, START_S, TESTING, Case, cases, files, pcap

CASES = cases()
IDENTITY = HostIdentity([GATEWAY_MAC], [GATEWAY4, GATEWAY6]).packed()
KNOWN = {
    # The owner is seen by what it sends beside ARP, which Zeek does not look at (docs/zeek.md).
    "frowing33/arp_mitm.pcap.gz": ["- arp_spoof 10.2.1.51 1733067144.421"],
}
"""Labelled captures on which the two differ, and how."""
CUT = re.compile(
    r"\d+\.\d+ fatal error: failed to read a packet from \S+: truncated dump file; .*\n"
)
"""What Zeek ends with where a capture breaks off within a packet; it has seen all before that."""
OURS = Sight(
    own_macs=(GATEWAY_MAC.hex(":"),),
    own_addresses=tuple(str(ipaddress.ip_address(one)) for one in (GATEWAY4, GATEWAY6)),
)
Said = list[tuple[str, str, float]]


def screened(trigger: Trigger, path: Path, host: bytes) -> Said:
    """What our screen says of a capture by the published rules: (rule, key, time)."""
    scan = msgspec.structs.replace(trigger.port_scan, alone=0)
    sweep = msgspec.structs.replace(trigger.mirai, alone=0)
    screen = embedded.build(msgspec.structs.replace(trigger, port_scan=scan, mirai=sweep))
    told = []
    with closing(CaptureFile(path)) as source:
        for one in source.batches():
            if one is not None and len(one.frames):
                marks = bytearray(len(one.frames))
                told += screen.screen(one.data, one.frames, host, marks)
    return [(rule, key, at_ns / 1e9) for rule, key, at_ns, *_ in told if rule in RULES]


def zeek(trigger: Trigger, path: Path, sight: Sight, where: Path) -> Said:
    """What Zeek says of it."""
    program = shutil.which("zeek")
    assert program is not None
    (where / "gateway.zeek").write_text(redefs(trigger, sight))
    done = subprocess.run(
        [program, "-b", "-C", "-r", str(path), str(PACKAGE / "scripts"), "gateway.zeek"],
        cwd=where, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert read_all(done.returncode, done.stderr), done.stderr
    log = where / "trigger.log"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [(one["rule"], one["key"], one["ts"]) for one in lines if one.get("rule") in RULES]


def read_all(code: int, stderr: str) -> bool:
    """Say whether Zeek came to the end of what a capture has."""
    return (code, stderr) == (0, "") or (code == 1 and CUT.fullmatch(stderr) is not None)


def agree(one: Said, other: Said) -> list[str]:
    """Return where two differ: what has no counterpart within one second."""
    left = list(other)
    lonely = []
    for rule, key, at_s in one:
        near = [o for o in left if o[:2] == (rule, key) and abs(o[2] - at_s) <= 1.0]
        if near:
            left.remove(near[0])
        else:
            lonely.append(f"- {rule} {key} {at_s:.3f}")
    return lonely + [f"+ {rule} {key} {at_s:.3f}" for rule, key, at_s in left]


def test_nothing_but_a_cut_is_tolerated() -> None:
    where = "1164609193.866536 fatal error: failed to read a packet from /tmp/plain: "
    cut = where + "truncated dump file; tried to read 16 header bytes, only got 2\n"
    assert read_all(0, "") and read_all(1, cut)
    assert not read_all(1, "") and not read_all(0, "warning\n") and not read_all(2, cut)
    assert not read_all(1, where + "bogus savefile header\n")
    assert not read_all(1, "1.0 error in ./dos.zeek, line 3: no such index\n" + cut)


@pytest.fixture
def needs_zeek() -> None:
    if shutil.which("zeek") is None:
        pytest.skip("no `zeek` on the PATH: its packages are in no registry that tests reach")


def trigger_of(case: Case) -> Trigger:
    return Trigger(bindings=case.bindings)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_screen_says_what_is_expected(case: Case) -> None:
    screen = embedded.build(trigger_of(case))
    data, table = batch(case.frames)
    told = screen.screen(data, table, IDENTITY, bytearray(len(case.frames)))
    # Further rules are our own alone, whichever of them are switched on.
    said = [(rule, key, at_ns / 1e9 - START_S) for rule, key, at_ns, *_ in told if rule in RULES]
    assert [one[:2] for one in said] == [one[:2] for one in case.expected]
    for (*_, at_s), (*_, expected_s) in zip(said, case.expected, strict=True):
        assert at_s == pytest.approx(expected_s, abs=0.05)


def test_every_rule_is_expected_somewhere_and_nowhere() -> None:
    assert {rule for case in CASES for rule, _, _ in case.expected} == set(RULES)
    assert sum(not case.expected for case in CASES) >= 8
    assert isinstance(embedded.build(Trigger()), Screen)


def test_the_packages_own_tests_are_written_from_the_table() -> None:
    there = {
        path.relative_to(TESTING): path.read_bytes()
        for folder in ("Traces", "tests", "Baseline")
        for path in (TESTING / folder).rglob("*")
        if path.is_file()
    }
    assert there == files(), "run: python -m tests.trigger.zeek_cases (and remove what is left)"


@pytest.mark.zeek
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_zeek_says_what_is_expected(case: Case, tmp_path: Path, needs_zeek: None) -> None:
    path = tmp_path / "case.pcap"
    path.write_bytes(pcap(case.frames))
    said = zeek(trigger_of(case), path, OURS, tmp_path)
    assert agree([(r, k, START_S + at_s) for r, k, at_s in case.expected], said) == []


@pytest.mark.zeek
def test_the_packages_own_tests(tmp_path: Path, needs_zeek: None) -> None:
    if shutil.which("btest") is None:
        pytest.skip("no `btest`: pip install btest")
    done = subprocess.run(
        ["btest", "-c", "btest.cfg", "-d"], cwd=TESTING, capture_output=True, text=True,
        env=os.environ | {"IDS_BTEST_TMP": str(tmp_path)}, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.zeek
@pytest.mark.data
def test_labelled_captures(data_dir: Path, tmp_path: Path, needs_zeek: None) -> None:
    differences = {}
    for path in sorted(data_dir.rglob("*.pcap*")):
        where = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        where.mkdir()
        plain = where / "plain"
        data = path.read_bytes()
        plain.write_bytes(gzip.decompress(data) if path.suffix == ".gz" else data)
        ours = screened(Trigger(), plain, HostIdentity([], []).packed())
        if lonely := agree(ours, zeek(Trigger(), plain, Sight(), where)):
            differences[str(path.relative_to(data_dir))] = lonely
        plain.unlink()
    assert differences == KNOWN
