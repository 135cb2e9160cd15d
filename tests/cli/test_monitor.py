"""`ids-appliance monitor` without a switch: examples, and one line for what cannot be."""

from pathlib import Path

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
