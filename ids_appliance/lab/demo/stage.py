"""A lab in; a gateway and a node running in it as processes, watched and asked, out."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from ids_appliance.classify.certificates import Authority
from ids_appliance.classify.certificates import Request as Leaf
from ids_appliance.classify.tls import Role
from ids_appliance.errors import LabError
from ids_appliance.gateway.client import Client
from ids_appliance.gateway.messages import Allow, AskDecisions, AskStatus, Pause, Release, Request
from ids_appliance.lab.demo.journal import Event, Journal
from ids_appliance.lab.layouts import GATEWAY, HOSTS
from ids_appliance.lab.network import Lab

NODE_PORT: Final = 7443
START_S: Final = 60.0
STOP_S: Final = 10.0
QUIET_S: Final = 0.25
TOLD_S: Final = 10.0
A = TypeVar("A")


class Stage:
    """The system under demonstration: `gateway` on the lab's gateway, `classifier` on its node.

    folder: where configuration, event log and what the processes say are kept. listener: called
    with every event, in a thread of its own. settings: further lines of the configuration.
    """

    def __init__(
        self,
        lab: Lab,
        *,
        model: Path,
        folder: Path,
        window_s: float,
        listener: Callable[[Event], None] = lambda event: None,
        settings: str = "",
    ) -> None:
        self.lab = lab
        self.folder = folder
        self.config_path = folder / "gateway.toml"
        self._model = model.resolve()
        self._window_s = window_s
        self._listener = listener
        self._settings = settings
        self._run_dir = lab.directory / "run"
        self._on_exit = ExitStack()
        self.journal: Journal

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "events.jsonl").unlink(missing_ok=True)
            certificates = self.lab.directory / "certificates"
            node = self.lab.address("node")
            authority = Authority.create(certificates, "demo")
            authority.issue(Leaf("node", Role.NODE, hosts=(node,)))
            authority.issue(Leaf("gateway", Role.GATEWAY))
            self.config_path.write_text(self._config(certificates))
            files = [f"{certificates}/{name}" for name in ("node.crt", "node.key", "ca.crt")]
            words = ["classifier", "--listen", f"{node}:{NODE_PORT}", "--model", str(self._model)]
            words += ["--cert", files[0], "--key", files[1], "--ca", files[2]]
            self.node = _Process(self.lab, "node", words, self.folder / "node.log")
            stack.callback(self.node.stop)
            self.node.await_line("listening on ")
            words = ["gateway", "--config", str(self.config_path)]
            self.gateway = _Process(self.lab, GATEWAY, words, self.folder / "gateway.log")
            stack.callback(self.gateway.stop)
            self.gateway.await_line("gateway on ")
            self.journal = Journal(self._run_dir, listener=self._listener)
            self._on_exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._on_exit.close()
        self.journal.close()

    # Orders and questions ----------------------------------------------------------------------

    def ask(self, request: Request[A]) -> A:
        """Ask or order one thing, as the commands do. Raises ControlError."""
        with Client(self._run_dir, orders=request.writes) as client:
            return client.ask(request)

    def allow(self, host: str, comment: str) -> str:
        """Put a host on the allow list, by its card: an address can be claimed by anybody.

        Return what the gateway says to it."""
        mac = self.lab.mac(host).hex(":")
        port = self.lab.port(host)
        request = Allow(op="add", text=mac, interface=port, comment=comment)
        return self.ask(request).message

    def pause(self, for_s: float) -> None:
        """Let nothing be enforced for so long; 0 ends it."""
        self.ask(Pause(for_s=for_s))

    def await_quiet(self, *, limit_s: float) -> None:
        """Return once no window has been open for a second, or after so long."""
        pause = threading.Event()
        quiet = 0
        for _ in range(round(limit_s / QUIET_S)):
            quiet = quiet + 1 if self.ask(AskStatus()).window is None else 0
            if quiet > 1 / QUIET_S:
                return
            pause.wait(QUIET_S)

    def begin_anew(self) -> int:
        """Release everybody; return how many decisions ended."""
        standing = self.ask(AskDecisions())
        ended = 0
        for one in standing:
            ended += self.ask(Release(text=one.subject)).changed
        return ended

    def counters(self) -> dict[str, int]:
        """Return all of the gateway's totals."""
        return self.ask(AskStatus()).counters

    def alive(self) -> bool:
        """Return whether both processes still run, and are heard."""
        return self.node.runs() and self.gateway.runs() and self.journal.follows

    def culprit(self, attacker: str, *, forged: bool) -> Callable[[Event], bool]:
        """Return what tells whether an event's decision is about an attacker.

        A flood is its sender's, and so is every address that nobody of the lab has.
        """
        mac = self.lab.mac(attacker).hex(":") if attacker else ""
        own = self.lab.addresses(attacker) if attacker else ()
        everybody = {one for host in self.lab.hosts for one in self.lab.addresses(host)}

        def about(event: Event) -> bool:
            if not attacker:
                return False
            if "src_mac" in event:
                return bool(event["src_mac"] == mac)
            if "src_ip" in event:
                return event["src_ip"] in own or (forged and event["src_ip"] not in everybody)
            return "dest_port" in event  # of a flood

        return about

    # Configuration -----------------------------------------------------------------------------

    def _config(self, certificates: Path) -> str:
        """Return the gateway's configuration: defaults but for what a brief demo needs."""
        lab = self.lab
        names = {lab.mac(h.name).hex(":"): h.name for h in HOSTS}
        names |= {lab.address(h.name): h.name for h in HOSTS if h.segment == "outside"}
        lines = [
            f"interfaces = {json.dumps(list(lab.interfaces))}",
            'mode = "offloaded"',
            f"model = {json.dumps(str(self._model))}",
            f"state_dir = {json.dumps(str(lab.directory / 'state'))}",
            f"run_dir = {json.dumps(str(self._run_dir))}",
            f"leases = {json.dumps(str(lab.directory / 'leases'))}",
            f"routers = {json.dumps([mac.hex(':') for mac in lab.routers])}",
            "[window]",
            f"window_s = {self._window_s}",
            # How newcomers fare is measured by two hosts that connect ten times a second: nobody's
            # ordinary life, and just what this rule is for.
            "[trigger.repeated_connections]",
            "enabled = false",
            "[enforce]",
            "enabled = true",
            "[node]",
            f'addresses = ["{lab.address("node")}:{NODE_PORT}"]',
            *(
                f"{key} = {json.dumps(str(certificates / name))}"
                for key, name in (
                    ("cert", "gateway.crt"),
                    ("key", "gateway.key"),
                    ("ca", "ca.crt"),
                    ("crl", "crl.pem"),
                )
            ),
            "[events]",
            f"file = {json.dumps(str((self.folder / 'events.jsonl').resolve()))}",
            "rotate_mib = 256.0",
            "stats_s = 10.0",
            "[names]",
            *(f"{json.dumps(key)} = {json.dumps(name)}" for key, name in names.items()),
            self._settings,
        ]
        return "\n".join(lines) + "\n"


class _Process:
    """One of our own commands on a host; what it says is kept in a file."""

    def __init__(self, lab: Lab, host: str, words: list[str], log: Path) -> None:
        self._what = words[0]
        self._log = log
        self._file = log.open("w")
        self._process = lab.popen(
            host,
            [sys.executable, "-m", "ids_appliance", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        self._thread: threading.Thread | None = None

    def await_line(self, begins: str) -> None:
        """Return once it has said so. Raises LabError with its last words, or if it is too late."""
        stream: Any = self._process.stdout
        for line in _lines(stream.fileno(), START_S):
            self._file.write(line + "\n")
            if line.startswith(begins):
                self._thread = threading.Thread(target=self._drain, args=(stream,), daemon=True)
                self._thread.start()
                return
        self._file.flush()
        said = self._log.read_text().strip().splitlines()
        raise LabError(f"the {self._what} did not start: {said[-1] if said else 'it says nothing'}")

    def _drain(self, stream: Any) -> None:
        for line in stream:
            self._file.write(line.decode(errors="replace"))
            self._file.flush()

    def runs(self) -> bool:
        """Return whether it is there."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it in good order, or by force if that takes too long."""
        if self.runs():
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
        if self._thread is not None:
            self._thread.join(TOLD_S)
        self._file.close()


def _lines(descriptor: int, limit_s: float) -> Iterator[str]:
    """Yield lines of a pipe as they come, until it ends or a line takes too long."""
    rest = b""
    while select.select([descriptor], [], [], limit_s)[0]:
        got = os.read(descriptor, 65_536)
        if not got:
            return
        *whole, rest = (rest + got).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
