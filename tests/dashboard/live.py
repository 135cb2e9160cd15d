"""A lab with a gateway, drills and the dashboard in a browser, all of them the real ones."""

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

from ids_appliance.drill.messages import SOCKET
from ids_appliance.lab.layouts import GATEWAY
from tests.campaigns.drills.ground import IDS, Ground
from tests.campaigns.drills.traffic import hping
from tests.dashboard.browser import Browser, Server, wait

ATTACKER, VICTIM = "bot", "dev01"
NAMES: Final = {"bot": "cheap camera", "dev01": "kitchen plug"}


class Live:
    """A context manager; `ground` is the lab, `browser` what people see, `server` its process."""

    def __init__(self, layout: str = "bridge") -> None:
        self.ground = Ground(layout)
        self.name = f"ids-drill{os.getpid() % 1000}"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(TemporaryDirectory(prefix="ids-dashboard-")))
            ground = stack.enter_context(self.ground)
            for host, name in NAMES.items():
                ground.settings[f'names."{ground.lab.mac(host).hex(":")}"'] = name
            self.config = ground.write_config("gateway", ground.where)
            stack.callback(self.drill, "remove")
            done = self.drill("prepare", "--config", str(self.config))
            assert done.returncode == 0, done.stderr
            ground.start()
            words = ("drill", "serve", "--name", self.name, "--config", str(self.config))
            serving = subprocess.Popen(self._inside(*words), stdout=subprocess.DEVNULL)
            stack.callback(_end, serving)
            wait((ground.run_dir / SOCKET).exists, "drills are served")
            self.server = stack.enter_context(
                Server("--config", str(self.config), log=scratch / "log")
            )
            self.browser = stack.enter_context(Browser(self.server.address))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def drill(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a `drill` command on the gateway."""
        return subprocess.run(
            self._inside("drill", *words, "--name", self.name),
            capture_output=True,
            text=True,
            check=False,
        )

    def token(self) -> str:
        """Return the gateway's token."""
        return (self.ground.run_dir / "token").read_text()

    def flood(self, *, seconds: float = 300.0) -> subprocess.Popen[bytes]:
        """Let the attacker flood the victim; return the flood once it is contained."""
        before = len(self.ground.events())
        lab = self.ground.lab
        flood = hping(lab, ATTACKER, lab.address(VICTIM), "-S", "-p", "80", seconds=seconds)
        assert self.ground.await_event(
            "response", limit_s=120, after=before, action="applied", response="quarantine"
        )
        return flood

    def _inside(self, *words: str) -> list[str]:
        """Return words that run ours in the gateway's namespace, and in this mount namespace: what
        `ip netns exec` would make there is seen by nobody else."""
        where = f"--net=/var/run/netns/{self.ground.lab.full(GATEWAY)}"
        return ["nsenter", where, *IDS, *words]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(60)
