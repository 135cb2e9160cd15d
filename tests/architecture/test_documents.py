"""What the README and the help screens promise is there, and what is there is told."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ids_appliance.cli import COMMANDS, main
from tests.architecture.sources import ROOT, name, project_files

README = (ROOT / "README.md").read_text(encoding="utf-8")
COLUMNS = 100


def command(which: str) -> click.Command:
    found = main.get_command(click.Context(main), which)
    assert found is not None
    return found


def screens(which: str) -> Iterator[tuple[list[str], click.Command]]:
    """Yield a command and, where it is a group, its subcommands, each with how to call it."""
    shown = command(which)
    yield [which], shown
    if isinstance(shown, click.Group):
        for sub, below in shown.commands.items():
            yield [which, sub], below


@pytest.mark.parametrize("which", sorted(COMMANDS))
def test_command_explains_itself(which: str) -> None:
    for call, shown in screens(which):
        assert shown.help, f"{call} has no docstring: what it turns into what"
        options = [option for option in shown.params if isinstance(option, click.Option)]
        assert [f"{call} {option.opts[0]}" for option in options if not option.help] == []


def assert_fits(call: list[str]) -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(main, [*call, "--help"])
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= COLUMNS


@pytest.mark.parametrize("which", sorted(COMMANDS))
def test_help_fits_the_screen(which: str) -> None:
    for call, _ in screens(which):
        assert_fits(call)


def test_help_of_the_whole_fits_the_screen() -> None:
    assert_fits([])


@pytest.mark.parametrize("which", sorted(COMMANDS))
def test_readme_shows_the_command(which: str) -> None:
    assert re.search(rf"ids-appliance {which}\b", README)


def test_readme_shows_no_command_that_is_not_there() -> None:
    assert set(re.findall(r"`ids-appliance ([a-z]\w*)", README)) <= set(COMMANDS)


def test_readme_options_exist() -> None:
    """Every `--option` in a README line about a command is one of that command."""
    for line in README.splitlines():
        shown = re.search(r"ids-appliance ([a-z]+)(?: ([a-z]+))?", line)
        if shown and shown[1] in COMMANDS:
            found = command(shown[1])
            if isinstance(found, click.Group) and shown[2] in found.commands:
                found = found.commands[shown[2]]
            known = {o for p in found.params for o in p.opts} | {"--help"}
            assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", line)) <= known, line


def test_setting_up_takes_exactly_two_commands() -> None:
    part = re.search(r"^## Set up\n(.*?)^## ", README, re.MULTILINE | re.DOTALL)
    assert part is not None
    blocks = re.findall(r"```\w*\n(.*?)```", part[1], re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    assert [line for line in lines if line] == ["make demo", "make test"]


def test_make_targets_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for path in documents():
        asked = set(re.findall(r"`make ([a-z-]+)", path.read_text(encoding="utf-8")))
        assert asked <= targets, name(path)


def documents() -> list[Path]:
    return [path for path in project_files() if path.suffix == ".md"]


def test_paths_in_the_readme_table_exist() -> None:
    rows = re.findall(r"^\| `([\w./-]+)`", README, re.MULTILINE)
    assert len(rows) > 10
    assert [row for row in rows if not (ROOT / row).exists()] == []


def test_links_between_documents_lead_somewhere() -> None:
    dead = []
    for path in documents():
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
            if "://" not in target and not (path.parent / target).exists():
                dead.append(f"{name(path)} -> {target}")
    assert dead == []
