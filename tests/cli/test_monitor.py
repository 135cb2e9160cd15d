"""`ids-appliance monitor` without a switch: examples, and one line for what cannot be."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from ids_appliance.cli import main
from ids_appliance.monitor.read import examples


def test_examples_are_listed_and_printed(tmp_path: Path) -> None:
    listed = CliRunner().invoke(main, ["monitor", "example"])
    assert listed.output.split() == examples()
    printed = CliRunner().invoke(main, ["monitor", "example", "s3"])
    assert printed.exit_code == 0 and 'name = "espejo"' in printed.output


def test_a_bad_file_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "monitor.toml"
    path.write_text('[bridge]\nnam = "s1"\n')
    for subcommand in ("up", "down", "status", "confirm"):
        done = CliRunner().invoke(main, ["monitor", subcommand, "--config", str(path)])
        assert done.exit_code == 2 and done.output.count("\n") == 1
        assert "[bridge] has no setting 'nam': did you mean 'name'" in done.output


def test_an_example_that_is_not_there_is_named() -> None:
    done = CliRunner().invoke(main, ["monitor", "example", "s9"])
    assert done.exit_code == 2 and "there is no example 's9'" in done.output


@pytest.mark.parametrize("words", [("up", "--diff"), ("status",)])
def test_a_hint_goes_to_stderr_before_anything_else(words: tuple[str, ...], tmp_path: Path) -> None:
    env = {"OVS_RUNDIR": str(tmp_path)}  # nobody answers there: nothing can be changed
    asked = ["monitor", *words, "--config"]
    hinted = CliRunner().invoke(main, [*asked, "s3-containers"], env=env)
    assert hinted.exit_code == 2 and hinted.stdout == ""
    assert [line[:5] for line in hinted.stderr.splitlines()] == ["Hint:", "Error"]
    silent = CliRunner().invoke(main, [*asked, "s3-embedded"], env=env)
    assert silent.exit_code == 2 and "Hint:" not in silent.output
