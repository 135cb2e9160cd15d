"""The main help: every command has its theme, and examples are examples of commands there are."""

import re
import shlex

import click
import pytest

from ids_appliance.cli import COMMANDS, THEMES, main
from tests.architecture.sources import ROOT
from tests.cli.asked import call

LIVE = ("status", "windows", "decisions", "why", "allow", "release", "quarantine", "pause", "panic",
        "enforce", "mode", "reload", "events")  # fmt: skip


def test_every_command_has_one_theme():
    placed = [name for names in THEMES.values() for name in names]
    assert len(placed) == len(set(placed))
    assert set(COMMANDS) <= set(placed)


def test_the_main_help_is_by_theme():
    text = call("--help").stdout
    at = [text.index(f"\n{theme}:\n") for theme in THEMES]
    assert at == sorted(at) and "Further" not in text
    assert all(re.search(rf"^  {name} +\S", text, re.MULTILINE) for name in COMMANDS)


def parse(line: str) -> None:
    """Parse a command line without running it; raises where an option or argument is wrong."""
    words = shlex.split(re.split(r" {3}| \| ", line)[0])
    command: click.Command | None = main
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words.pop(0))
    assert command is not None, line
    command.make_context("x", words)


@pytest.mark.parametrize("name", LIVE)
def test_the_examples_would_run(name):
    text = call(name, "--help").stdout
    lines = re.findall(r"^ +(?:sudo )?ids-appliance (.*)", text.partition("Example")[2], re.M)
    assert lines
    for line in lines:
        parse(line)


PAGES = ("operations", "dashboard", "deployment", "raspberry-pi", "monitor", "zeek")
TYPED = re.compile(
    r"^ *(?:sudo )?(?:ip netns exec \w+ )?(?:\.venv/bin/)?ids-appliance (.*?)(?: +[#>|&].*)?$", re.M
)


def typed(page: str) -> list[str]:
    """Return the command lines of a page's blocks, without what labels files that have to exist."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    return [line for line in TYPED.findall("".join(blocks)) if "monitor label" not in line]


def test_there_is_something_to_type():
    assert len(typed("operations")) >= 10 and all(map(typed, PAGES))


@pytest.mark.parametrize("line", [line for page in PAGES for line in typed(page)])
def test_what_the_pages_tell_to_type_would_run(line):
    parse(line)


def test_commands_that_operations_mentions_exist():
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert set(re.findall(r"ids-appliance ([a-z]+)", text)) <= set(COMMANDS)
