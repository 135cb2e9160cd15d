"""The command says what it read, goes on after kill -9, and is told wrong in one line."""

import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from ids_appliance.cli import main
from tests.ext import frames as f
from tests.train.captures import make_data, write_pcap
from tests.train.ciciot import make_tree

LONG_S = 120


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def content(directory):
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.name[0] != "."}


def test_says_what_became_of_every_file(tmp_path):
    make_data(tmp_path / "data", n=20)
    (tmp_path / "data/home/quiet.pcap").unlink()
    arguments = ("extract", "--data", tmp_path / "data", "--tables", tmp_path / "tables")
    stopped = run(*arguments)
    assert stopped.exit_code == 2
    assert stopped.output.count("\n") == 1 and "home/quiet.pcap is missing" in stopped.output
    done = run(*arguments, "--on-error", "skip")
    assert done.exit_code == 0
    assert "missing: home/quiet.pcap: no such file" in done.output
    assert "160 packets of 6 files (1 missing, 1 skipped, 4 used; 4 of them" in done.output
    trained = run(
        *("train", "--data", tmp_path / "tables", "--out", tmp_path / "model", "--no-evaluate"),
        *("--rows", 60, "--trees", 3, "--leaves", 8, "--jobs", 1),
    )
    assert trained.exit_code == 0, trained.output


def test_the_papers_captures_alone(tmp_path):
    make_tree(tmp_path / "tree", n=4)
    tables = tmp_path / "tables"
    done = run("extract", "--data", tmp_path / "tree", "--tables", tables, "--preset", "paper")
    assert done.exit_code == 0, done.output
    # 4 of DoS, 5 of Recon, 2 of Spoofing, 3 of Mirai and two benign captures.
    assert len(list(tables.glob("*.parquet"))) == 4 + 5 + 2 + 3 + 2
    train = ("train", "--data", tables, "--out", tmp_path / "m", "--preset", "paper")
    few = ("--no-evaluate", "--trees", 3, "--leaves", 8, "--jobs", 1)
    short = run(*train, *few, "--on-error", "stop")
    assert short.exit_code == 2 and "8 of 417,389 benign, 56 of 559,072 attack" in short.output
    taken = run(*train, *few)
    assert taken.exit_code == 0 and "all 56 packets of `attack`" in taken.output


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--dask", "local:none"], "say how many workers"),
        (["--attacker", "192.0.2.1"], "attackers belong to the layout ciciot2023"),
        (["--layout", "folder"], "cannot read"),
    ],
)
def test_told_wrong_in_one_line(tmp_path, more, message):
    make_data(tmp_path / "data", n=2)
    wrong = run("extract", "--data", tmp_path / "data", "--tables", tmp_path / "t", *more)
    assert wrong.exit_code == 2 and message in wrong.output and wrong.output.count("\n") == 1


def test_goes_on_after_kill_9(tmp_path):
    packets = [f.ethernet(f.ipv4(f.tcp(bytes([i % 256]), ports=(i, 80)))) for i in range(20_000)]
    for name in ("DoS-SYN_Flood", "Recon-PortScan", "XSS"):
        write_pcap(tmp_path / f"tree/{name}.pcap", packets * 4)
    arguments = ("extract", "--data", tmp_path / "tree", "--tables")
    assert run(*arguments, tmp_path / "whole").exit_code == 0
    tables = tmp_path / "tables"
    command = [sys.executable, "-m", "ids_appliance", *map(str, arguments), str(tables)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + LONG_S
    # With the second capture's table there, the first one is done with.
    while len(list(tables.glob("[!.]*.parquet"))) < 2 and time.monotonic() < end:
        time.sleep(0.002)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    again = run(*arguments, tables)
    assert again.exit_code == 0 and "0 of them were there already" not in again.output
    assert content(tables) == content(tmp_path / "whole")
