"""`ids-appliance bench`: a report names the command that makes it again."""

import errno
from pathlib import Path

import pytest
from click.testing import CliRunner

import ids_appliance.cli.bench as module
from ids_appliance.cli import main
from ids_appliance.cli.bench import called, command
from ids_appliance.errors import IdsError, LabError


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--quick", "--cgroup", "1core-1gb", "--modes", "tapped,offloaded"],
        ["--mixes", "mixed", "--step", "2.5", "--rounds", "3", "--fixed", "15000,19500", "--apart"],
        ["--fixed", ""],
    ],
)
def test_the_command_is_told_as_it_was_given(words, tmp_path):
    context = command.make_context("bench", [*words, "--out", str(tmp_path)])
    told = called(context).split()
    assert told[:2] == ["ids-appliance", "bench"] and str(tmp_path) not in told
    again = command.make_context("bench", ["" if word == '""' else word for word in told[2:]])
    assert {**again.params, "out": tmp_path} == context.params


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--profile", "paper"], "--profile says nothing without --live"),
        (["--live", "--inventory", __file__, "--apart"], "--apart says nothing with --live"),
        (["--live", "--inventory", __file__, "--mixes", "mixed"], "--mixes says nothing with"),
    ],
)
def test_what_would_be_told_and_not_done_is_refused(words, said, tmp_path, monkeypatch):
    def built(*_):
        raise LabError("it is built")

    monkeypatch.setattr(module, "_bed", built)
    done = CliRunner().invoke(main, ["bench", "--out", str(tmp_path), *words])
    assert done.exit_code == 2 and said in done.stderr


class Nobody:
    def run(self, mode, mix, pps, seconds):
        raise LabError("the gateway does not answer")


def test_where_nothing_was_measured_what_was_there_stays(tmp_path, monkeypatch):
    (tmp_path / "bench.json").write_text("before")
    monkeypatch.setattr(module, "_bed", lambda *_: Nobody())
    done = CliRunner().invoke(main, ["bench", "--quick", "--out", str(tmp_path)])
    assert done.exit_code == 2 and "the gateway does not answer" in done.stderr
    assert (tmp_path / "bench.json").read_text() == "before"
    assert not (tmp_path / "report.md").exists()


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    def full(path, text):
        path.write_bytes(text.encode()[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "bench.json").write_text("before")
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(IdsError, match=r"cannot write .*bench.json: No space left"):
        module._replace(tmp_path / "bench.json", "after")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]
