"""The name of a mode in, its processes on the test bed out, and how many packets it has judged."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from ids_appliance.bench.bed import GATEWAY, INTERFACE, NODE, START_S, Bed, Process
from ids_appliance.config import Ring
from ids_appliance.errors import ControlError, LabError, NotRunning
from ids_appliance.gateway.client import Client
from ids_appliance.gateway.messages import AskStatus

Kind = Literal["bare", "tapped", "gateway"]
PORT: Final = 7447
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run the gateway."""

    name: str
    about: str
    kind: Kind
    settings: str = ""
    """Further lines of the gateway's configuration, before its sections."""
    offloaded: bool = False
    missing: str = ""
    """Why it cannot be run; empty: it can."""


MODES: Final = {
    mode.name: mode
    for mode in (
        Mode("bare", "the kernel forwards, nobody looks", "bare"),
        Mode("tapped", "the same ring; its reader only counts", "tapped"),
        Mode("gateway-only", "every packet judged on the gateway", "gateway"),
        Mode("offloaded", "new cells judged by the node", "gateway", offloaded=True),
        Mode(
            "inline",
            "every packet waits in a kernel queue for its verdict",
            "bare",
            missing="the inline queue has not landed",
        ),
    )
}


@dataclass(slots=True)
class Running:
    """A mode at work."""

    counters: Callable[[], dict[str, int]]
    """Its totals; `judged` among them, where anybody looks."""
    pids: dict[str, int] = field(default_factory=dict)


class Stage:
    """Starts modes on a test bed, one at a time; the node stays for all of them.

    model: the bundle that judges. prefix: words before the gateway's own command, such as
    what puts it into a control group.
    """

    def __init__(self, bed: Bed, model: Path, *, prefix: tuple[str, ...] = ()) -> None:
        self._bed = bed
        self._model = model.resolve()
        self._prefix = prefix
        self._on_exit = ExitStack()
        self._node: Process | None = None

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: object) -> None:
        self._on_exit.close()

    @contextmanager
    def running(self, mode: Mode) -> Iterator[Running]:
        """Run a mode; it is ready when this is entered. Raises LabError."""
        if mode.missing:
            raise LabError(f"mode {mode.name}: {mode.missing}")
        if mode.kind == "bare":
            yield Running(dict)
        elif mode.kind == "tapped":
            with self._counting("ids_appliance.bench.tap", *_ring_words()) as running:
                yield running
        else:
            with self._gateway(mode) as running:
                yield running

    @contextmanager
    def _counting(self, module: str, *words: str) -> Iterator[Running]:
        """A process that says `ready` and answers each line by its totals."""
        process = self._bed.process(
            GATEWAY, sys.executable, "-m", module, INTERFACE, *words, prefix=self._prefix
        )
        try:
            _await(process, "ready")
            yield Running(lambda: process.ask(START_S), {"gateway": process.pid})
        finally:
            process.close()

    @contextmanager
    def _gateway(self, mode: Mode) -> Iterator[Running]:
        """The gateway itself, its window open from the first packet on and its responses off."""
        place = self._bed.directory / f"gateway-{mode.name}"
        place.mkdir(exist_ok=True)
        pids = {"node": self._awaken().pid} if mode.offloaded else {}
        config = place / "gateway.toml"
        config.write_text(_configuration(mode, self._model, place))
        words = [sys.executable, "-m", "ids_appliance", "gateway", "--config", str(config)]
        process = self._bed.process(GATEWAY, *words, prefix=self._prefix)
        try:
            with _client(process, place / "run") as client:

                def counters() -> dict[str, int]:
                    try:
                        return client.ask(AskStatus()).counters
                    except ControlError as error:
                        if process.ended(_POLL_S):
                            raise process.fail() from error
                        raise

                yield Running(counters, {"gateway": process.pid} | pids)
        finally:
            process.close()

    def _awaken(self) -> Process:
        """Return the node, started at its first use."""
        if self._node is None:
            words = [sys.executable, "-m", "ids_appliance", "classifier", "--plaintext"]
            words += ["--listen", f"{NODE}:{PORT}", "--model", str(self._model)]
            self._node = self._bed.process("node", *words)
            self._on_exit.callback(self._node.close)
            _await(self._node, "listening on ")
        return self._node


def _ring_words() -> list[str]:
    return [str(Ring().mib), str(Ring().retire_ms)]


def _await(process: Process, begins: str) -> None:
    while not process.line(START_S).startswith(begins):
        pass


def _client(process: Process, run_dir: Path) -> Client:
    """Connect to a gateway that is starting, as soon as it answers."""
    for _ in range(round(START_S / _POLL_S)):
        try:
            return Client(run_dir, deadline_s=START_S)
        except (NotRunning, ControlError):
            if process.ended(_POLL_S):
                raise process.fail() from None
    raise LabError(f"the gateway does not answer within {START_S:g} s")


def _configuration(mode: Mode, model: Path, place: Path) -> str:
    lines = [
        f"interfaces = {json.dumps([INTERFACE])}",
        f"mode = {json.dumps('offloaded' if mode.offloaded else 'gateway-only')}",
        f"model = {json.dumps(str(model))}",
        f"state_dir = {json.dumps(str(place / 'state'))}",
        f"run_dir = {json.dumps(str(place / 'run'))}",
        'leases = ""',
        "[trigger]",
        'kind = "always"',
        "[enforce]",
        "enabled = false",
        'backend = "dry-run"',
        mode.settings,
    ]
    if mode.offloaded:
        lines += ["[node]", f'addresses = ["{NODE}:{PORT}"]', "plaintext = true"]
    return "\n".join(lines) + "\n"
