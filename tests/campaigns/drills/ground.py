"""A layout in, a lab with the real gateway process out: started, asked, ordered about, killed."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

from ids_appliance.errors import ControlError, NotRunning
from ids_appliance.gateway.actions import DecisionInfo, Status
from ids_appliance.gateway.client import Client
from ids_appliance.gateway.messages import AskDecisions, AskStatus, Quarantine, Request
from ids_appliance.lab.layouts import GATEWAY
from ids_appliance.lab.network import Lab
from ids_appliance.lab.services import offered

MODEL: Final = Path(__file__).resolve().parents[3] / "models" / "iot-top20"
IDS: Final = (sys.executable, "-m", "ids_appliance")
NODE_PORT: Final = 7447
START_S: Final = 120.0
A = TypeVar("A")
Event = dict[str, Any]


class Ground:
    """A lab with its services and, once `start` was called, a gateway; a context manager.

    settings: dotted key -> value, such as {"policy.durations_s": [10.0]}; those of BASE give way.
    """

    BASE: Final[Mapping[str, Any]] = {
        "model": str(MODEL),
        "window.window_s": 5.0,
        "enforce.enabled": True,
        "events.stats_s": 5.0,
    }

    def __init__(self, layout: str, **settings: Any) -> None:
        self.lab = Lab(layout, tag="d")
        self.settings: dict[str, Any] = {**self.BASE, **settings}
        self.services = True
        self.process: subprocess.Popen[Any] | None = None
        self.node: subprocess.Popen[Any] | None = None
        self.starts = 0
        self._stack = ExitStack()

    def __enter__(self) -> "Ground":
        with ExitStack() as stack:
            self.where = Path(stack.enter_context(TemporaryDirectory(prefix="ids-drill-")))
            stack.enter_context(self.lab)
            if self.services:
                stack.enter_context(offered(self.lab))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # The gateway -------------------------------------------------------------------------------

    def start(self, *, wrapped_by: tuple[str, ...] = IDS) -> float:
        """Start the gateway and wait until it answers; return how many seconds that took."""
        self.starts += 1
        begin = time.monotonic()
        with self.said.open("wb") as errors:
            self.process = self.lab.popen(GATEWAY, self._words(wrapped_by), stderr=errors)
        while True:
            try:
                self.status()
                return time.monotonic() - begin
            except (NotRunning, ControlError):
                if self.process.poll() is not None or time.monotonic() - begin > START_S:
                    raise SystemExit(f"no gateway: {self.said.read_text()}") from None
                time.sleep(0.05)

    def start_another(self) -> tuple[int, list[str]]:
        """Start a second gateway with directories of its own; return (exit code, what it said)."""
        config = self.write_config("second", self.where / "second")
        done = subprocess.run(
            self.lab.command(GATEWAY, *IDS, "gateway", "--config", str(config)),
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
        return done.returncode, done.stderr.strip().splitlines()

    def start_node(self) -> None:
        """Start the node's classifier; `settings` send the gateway there."""
        listen = f"{self.lab.address('node')}:{NODE_PORT}"
        words = [*IDS, "classifier", "--model", str(MODEL), "--listen", listen, "--plaintext"]
        self.node = self.lab.popen("node", words)
        self.settings |= {"mode": "offloaded", "node.addresses": [listen], "node.plaintext": True}

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send the gateway a signal and wait for its end; return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def write_config(self, name: str, where: Path) -> Path:
        """Write the settings to a file, with directories of their own; return its path."""
        own = {
            "interfaces": list(self.lab.interfaces),
            "state_dir": f"{where}/state",
            "run_dir": f"{where}/run",
        }
        path = self.where / f"{name}.toml"
        path.write_text(_toml({**own, **self.settings}))
        return path

    def _words(self, program: tuple[str, ...]) -> list[str]:
        return [*program, "gateway", "--config", str(self.write_config("gateway", self.where))]

    @property
    def run_dir(self) -> Path:
        """Where its sockets are."""
        return self.where / "run"

    @property
    def said(self) -> Path:
        """What the latest gateway wrote to standard error."""
        return self.where / f"stderr-{self.starts}"

    # Questions and orders ----------------------------------------------------------------------

    def ask(self, request: Request[A]) -> A:
        """Return the gateway's answer. Raises ControlError."""
        with Client(self.run_dir, orders=request.writes) as client:
            return client.ask(request)

    def status(self) -> Status:
        """Ask how it is."""
        return self.ask(AskStatus())

    def decisions(self) -> list[DecisionInfo]:
        """Ask what stands."""
        return list(self.ask(AskDecisions()))

    def quarantine(self, text: str, *, for_s: float = 600.0) -> str:
        """Order it; return the line with which it was refused, "" if it was carried out."""
        try:
            self.ask(Quarantine(text=text, for_s=for_s))
        except ControlError as error:
            return str(error)
        return ""

    def cli(self, *words: str) -> tuple[int, str, str]:
        """Run a command of ours on the gateway; return (exit code, stdout, stderr)."""
        config = ("--config", str(self.where / "gateway.toml"))
        done = subprocess.run(
            self.lab.command(GATEWAY, *IDS, *words, *config),
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def nft(self, *commands: str) -> None:
        """Change the kernel's rules behind the gateway's back. Raises LabError."""
        for command in commands:
            self.lab.run(GATEWAY, "nft", command)

    def ruleset(self) -> str:
        """Return the kernel's rules on the gateway."""
        return self.lab.run(GATEWAY, "nft", "list", "ruleset")

    # Events ------------------------------------------------------------------------------------

    def events(self, *kinds: str) -> list[Event]:
        """Return the events written until now, of some types or all."""
        return [e for e in self._lines() if not kinds or e["event_type"] in kinds]

    def await_event(self, kind: str, *, limit_s: float, after: int = 0, **fields: Any) -> bool:
        """Wait for an event with these fields among those after the first `after`; was it there?"""

        def there() -> bool:
            found = [e for e in self.events()[after:] if e["event_type"] == kind]
            return any(fields.items() <= e[kind].items() for e in found)

        return self.wait(there, limit_s=limit_s)

    def accused(self, after: int = 0) -> dict[str, str]:
        """Return whom the events say was acted upon: subject -> the strongest response."""
        found: dict[str, str] = {}
        for event in self.events()[after:]:
            what = event.get("response", {})
            if event["event_type"] == "response" and what.get("action") == "applied":
                found.setdefault(what["subject"], what["response"])
                if what["response"] == "quarantine":
                    found[what["subject"]] = "quarantine"
        return found

    def wait(self, look: Callable[[], object], *, limit_s: float) -> bool:
        """Look again and again until it is so; return whether it was in time."""
        end = time.monotonic() + limit_s
        while not look():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def _lines(self) -> Iterator[Event]:
        path = self.where / "state" / "events.jsonl"
        if not path.exists():
            return
        for line in path.read_bytes().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                return  # being written, or the disk was full in the middle of it


def _toml(settings: Mapping[str, Any]) -> str:
    """Return dotted keys as TOML; JSON's texts, numbers, lists and booleans are TOML's."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in sorted(settings.items()))
