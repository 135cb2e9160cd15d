"""Commands run in this process against a gateway's control sockets."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner, Result

from ids_appliance.cli import main
from tests.gateway.running import Gateway, running


class Asked:
    """A running gateway and the command line that asks it."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.actions = gateway.actions
        self.run_dir = gateway.run_dir

    def __call__(self, *arguments: str, colour: bool = False) -> Result:
        return call(*arguments, "--run-dir", str(self.run_dir), colour=colour)

    def table(self, *arguments: str) -> list[str]:
        """The lines of a table; each fits the screen and none could move a cursor."""
        done = self(*arguments)
        assert done.exit_code == 0, done.output
        lines = done.stdout.splitlines()
        assert max(map(len, lines)) <= 100, lines
        assert all(line.isprintable() for line in lines), lines
        return lines

    def json(self, *arguments: str):
        done = self(*arguments, "--format", "json")
        assert done.exit_code == 0, done.output
        assert all(line.isprintable() for line in done.stdout.splitlines())
        return json.loads(done.stdout)

    def ordered(self, *arguments: str) -> tuple[object, ...]:
        """The one order that a command gives; the command says what is so from now on."""
        before = len(self.gateway.orders)
        done = self(*arguments)
        assert done.exit_code == 0, done.output
        assert done.stdout.strip()
        assert len(self.gateway.orders) == before + 1
        return self.actions.calls[-1]


def call(*arguments: str, colour: bool = False) -> Result:
    return CliRunner().invoke(main, list(arguments), color=colour)


@contextmanager
def asked(run_dir: Path, **options) -> Iterator[Asked]:
    with running(run_dir, **options) as gateway:
        yield Asked(gateway)


def one_line(done: Result) -> str:
    """The one line that refuses a command."""
    assert done.exit_code == 2, done.output
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and "Traceback" not in done.output, done.output
    return lines[0]
