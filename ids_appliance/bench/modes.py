"""The name of a mode in, its processes on the test bed out, and how many packets it has judged."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from ids_appliance.bench import suricata
from ids_appliance.bench.bed import GATEWAY, INTERFACE, NODE, START_S, Bed, Process
from ids_appliance.config import Ring
from ids_appliance.errors import ControlError, LabError, NotRunning
from ids_appliance.gateway.client import Client
from ids_appliance.gateway.messages import AskStatus

PORTS: Final = {"appliance": 7447, "literal": 7448}
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run the gateway."""

    name: str
    about: str
    module: str = ""
    """What runs on the gateway: a module that answers lines by its totals, one that takes the
    gateway's command line (`as_gateway`), or nothing."""
    as_gateway: bool = False
    node: Literal["", "appliance", "literal"] = ""
    """Who judges on the node; empty: nobody does."""
    inline: bool = False
    """Packets are held in a kernel queue until they have their verdict."""
    timed: bool = False
    """The module is told the model: it measures latency."""
    other: suricata.Way | None = None
    """It is another system, and how that takes its packets."""
    ring: Ring = Ring()
    """Of a module that is no gateway: its capture ring."""
    needs: str = ""
    """The module, of an extra that not everybody has, without which it does not start."""
    extra: str = "gateway"
    """That extra."""
    missing: str = ""
    """Why it cannot be run; empty: it can."""

    @property
    def absent(self) -> str:
        """Why it cannot be run here, as far as can be seen beforehand; "" if it can."""
        if self.missing:
            return self.missing
        if self.needs and find_spec(self.needs) is None:
            install = f"{sys.executable} -m pip install 'ids-appliance[{self.extra}]'"
            return f"{self.needs} is not installed: {install}"
        return ""


_OURS: Final = "ids_appliance"
_LITERAL: Final = "ids_appliance.bench.literal"
_ROOMY: Final = Ring(mib=64, retire_ms=20)
"""What judges in large batches stalls for long: blocks that fill up, and more of them, help it."""
_TIMED: Final = "ids_appliance.bench.timed"

MODES: Final = {
    mode.name: mode
    for mode in (
        Mode("bare", "the kernel forwards, nobody looks"),
        Mode("tapped", "the same ring; its reader only counts", "ids_appliance.bench.tap"),
        Mode(
            "paper-gateway",
            "as published: Python features, scikit-learn here",
            _LITERAL,
            ring=_ROOMY,
            needs="sklearn",
            extra="train",
        ),
        Mode(
            "paper-offloaded",
            "as published: Python features, one JSON object a packet, scikit-learn on the node",
            _LITERAL,
            node="literal",
            ring=_ROOMY,
            needs="sklearn",
            extra="train",
        ),
        Mode("gateway-only", "every packet judged on the gateway", _OURS, as_gateway=True),
        Mode("offloaded", "new cells judged by the node", _OURS, as_gateway=True, node="appliance"),
        Mode(
            "offloaded-uncached",
            "the same with room for one set of known cells",
            "ids_appliance.bench.uncached",
            as_gateway=True,
            node="appliance",
        ),
        Mode(
            "inline",
            "every packet waits in a kernel queue for its verdict",
            _OURS,
            as_gateway=True,
            inline=True,
            needs="netfilterqueue",
        ),
        Mode(
            "inline-accepting",
            "the same queue and binding; its reader accepts every packet unseen",
            "ids_appliance.bench.accepting",
            inline=True,
            needs="netfilterqueue",
        ),
    )
}
TIMED: Final = {
    "gateway-only": Mode("gateway-only, latency", "", _TIMED, timed=True),
    "offloaded": Mode("offloaded, latency", "", _TIMED, timed=True, node="appliance"),
}
"""Mode -> its twin that measures how long packets wait for their verdict."""


def others(name: str) -> list[Mode]:
    """Return another system's modes, for comparison under the same load; "": none.

    What the machine lacks is in `missing`."""
    if name != "suricata":
        return []
    lacks = suricata.missing()
    return [
        Mode(
            "suricata-afpacket",
            "Suricata reads a ring beside the packets' way",
            other="afpacket",
            missing=lacks,
        ),
        Mode(
            "suricata-nfqueue",
            "every packet waits in a kernel queue for Suricata's verdict",
            other="nfqueue",
            inline=True,
            missing=lacks,
        ),
    ]


@dataclass(slots=True)
class Running:
    """A mode at work."""

    counters: Callable[[], dict[str, int]]
    """Its totals; `judged` among them, where anybody looks."""
    pids: dict[str, int] = field(default_factory=dict)
    lag_s: float = 0.0
    """How old the totals may be."""


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
        self._nodes: dict[str, Process] = {}

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: object) -> None:
        self._on_exit.close()

    @contextmanager
    def running(self, mode: Mode) -> Iterator[Running]:
        """Run a mode; it is ready when this is entered. Raises LabError."""
        if mode.absent:
            raise LabError(f"mode {mode.name}: {mode.absent}")
        if mode.other is not None:
            with self._suricata(mode, mode.other) as running:
                yield running
        elif not mode.module:
            yield Running(dict)
        elif mode.as_gateway:
            with self._gateway(mode) as running:
                yield running
        else:
            with self._counting(mode) as running:
                yield running

    @contextmanager
    def _counting(self, mode: Mode) -> Iterator[Running]:
        """A process that says `ready` and answers each line by its totals."""
        words = [INTERFACE, str(mode.ring.mib), str(mode.ring.retire_ms)]
        pids = {}
        if mode.timed:
            words.append(str(self._model))
        if mode.node:
            pids["node"] = self._awaken(mode.node).pid
            port = str(PORTS[mode.node])
            words += [f"{NODE}:{port}"] if mode.timed else [NODE, port]
        process = self._bed.process(
            GATEWAY, sys.executable, "-m", mode.module, *words, prefix=self._prefix
        )
        try:
            _await(process, "ready")
            yield Running(lambda: process.ask(START_S), {"gateway": process.pid} | pids)
        finally:
            process.close()
            if mode.inline:
                self._bed.forget_rules()

    @contextmanager
    def _gateway(self, mode: Mode) -> Iterator[Running]:
        """The gateway itself, its window open from the first packet on and its responses off."""
        place = self._bed.directory / f"gateway-{mode.name}"
        place.mkdir(exist_ok=True)
        pids = {"node": self._awaken(mode.node).pid} if mode.node else {}
        config = place / "gateway.toml"
        config.write_text(configuration(mode, self._model, place))
        words = [sys.executable, "-m", mode.module, "gateway", "--config", str(config)]
        process = self._bed.process(GATEWAY, *words, prefix=self._prefix)
        try:
            connect(process, place / "run").close()

            def counters() -> dict[str, int]:
                # A step may last longer than the gateway keeps a silent connection.
                try:
                    with Client(place / "run", deadline_s=START_S) as client:
                        return client.ask(AskStatus()).counters
                except ControlError as error:
                    if process.ended(_POLL_S):
                        raise process.fail() from error
                    raise

            yield Running(counters, {"gateway": process.pid} | pids)
        finally:
            process.close()
            if mode.inline:
                self._bed.forget_rules()

    @contextmanager
    def _suricata(self, mode: Mode, way: suricata.Way) -> Iterator[Running]:
        """Suricata instead of the gateway's process; in a queue, behind the gateway's own rule."""
        place = self._bed.directory / mode.name
        place.mkdir(exist_ok=True)
        words = suricata.command(way, INTERFACE, place)
        process = self._bed.process(GATEWAY, *words, prefix=self._prefix)
        try:
            while suricata.READY not in process.line(START_S):
                pass
            with closing(suricata.Asked(place, way, deadline_s=START_S)) as asked:
                if mode.inline:
                    self._bed.hold_packets(suricata.QUEUE)

                def counters() -> dict[str, int]:
                    refused = self._bed.queue_drops(suricata.QUEUE) if mode.inline else 0
                    told = asked.counters()
                    return told | {"kernel_drops": told["kernel_drops"] + refused}

                yield Running(counters, {"gateway": process.pid}, lag_s=suricata.LAG_S)
        finally:
            process.close()
            if mode.inline:
                self._bed.forget_rules()

    def _awaken(self, kind: Literal["appliance", "literal"]) -> Process:
        """Return a node, started at its first use."""
        if kind not in self._nodes:
            port = PORTS[kind]
            words = [sys.executable, "-m", "ids_appliance", "classifier", "--plaintext"]
            words += ["--listen", f"{NODE}:{port}", "--model", str(self._model)]
            if kind == "literal":
                words = [sys.executable, "-m", "ids_appliance.bench.literal_node", NODE, str(port)]
            self._nodes[kind] = process = self._bed.process("node", *words)
            self._on_exit.callback(process.close)
            _await(process, "listening on " if kind == "appliance" else "ready")
        return self._nodes[kind]


def _await(process: Process, begins: str) -> None:
    while not process.line(START_S).startswith(begins):
        pass


def connect(process: Process, run_dir: Path) -> Client:
    """Connect to a gateway that is starting, as soon as it answers."""
    for _ in range(round(START_S / _POLL_S)):
        try:
            return Client(run_dir, deadline_s=START_S)
        except (NotRunning, ControlError):
            if process.ended(_POLL_S):
                raise process.fail() from None
    raise LabError(f"the gateway does not answer within {START_S:g} s")


def configuration(mode: Mode, model: Path, place: Path) -> str:
    """Return a gateway's configuration; its sockets and its state are in folders of `place`."""
    lines = [
        f"interfaces = {json.dumps([INTERFACE])}",
        f"mode = {json.dumps('offloaded' if mode.node else 'gateway-only')}",
        f"model = {json.dumps(str(model))}",
        f"state_dir = {json.dumps(str(place / 'state'))}",
        f"run_dir = {json.dumps(str(place / 'run'))}",
        'leases = ""',
        "[trigger]",
        'kind = "always"',
        "[enforce]",
        "enabled = false",
        f"backend = {json.dumps('nftables' if mode.inline else 'dry-run')}",
        # Else the gateway would judge itself what the node does not answer in time.
        "[failure]",
        'on_classifier_down = "open"',
    ]
    if mode.inline:
        # Nothing is dropped, and nobody passes beside the queue: every packet is judged.
        lines += ["[inline]", "enabled = true", 'drop = "decision"', "bypass = false"]
    if mode.node:
        lines += ["[node]", f'addresses = ["{NODE}:{PORTS["appliance"]}"]', "plaintext = true"]
    return "\n".join(lines) + "\n"
