"""`ids-appliance monitor capture` as a process: started, awaited, ended."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.net.namespaces import wait_for


class Capturing:
    """A running capture."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )
        assert self.process.stderr is not None
        self.said = [self.process.stderr.readline()]
        assert "capturing at" in self.said[0], self.said[0] + self.process.stderr.read()

    @property
    def tcpdump(self) -> int:
        """The id of the process that it has started."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return int(" ".join(path.read_text() for path in tasks).split()[0])

    def line(self) -> str:
        """Return what it says next."""
        assert self.process.stderr is not None
        self.said.append(self.process.stderr.readline())
        return self.said[-1]

    def end(self, number: int = signal.SIGINT) -> str:
        """Let it end, or wait for its end (0); return what it has printed."""
        if number:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        self.said += err.splitlines(keepends=True)
        assert self.process.returncode == 0, err
        return out


@contextmanager
def capturing(words: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[Capturing]:
    """Start a capture, wait until it sees frames; end it at once if nobody has."""
    one = Capturing(words, env)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()
        for pipe in (one.process.stdout, one.process.stderr):
            if pipe is not None:
                pipe.close()


def ended(pid: int) -> None:
    """Wait until a process is not there any more."""

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "Z"

    wait_for(gone, seconds=30)
