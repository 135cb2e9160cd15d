"""What is under way on a host: a real tool's process, or a thread of real sockets."""

import contextlib
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ids_appliance.errors import LabError
from ids_appliance.lab.network import end_group


class Running(Protocol):
    """Something started; every one ends by itself after its time."""

    def ended(self) -> bool:
        """Return whether it is over."""

    def stop(self) -> None:
        """End it if it has not ended; wait until it has. Raises LabError if it failed."""


class Command:
    """A tool's process; what it complains about is kept."""

    def __init__(
        self,
        process: subprocess.Popen[Any],
        errors: Path,
        *,
        allowed: Sequence[int] = (0,),
        patience_s: float = 3.0,
    ) -> None:
        self.process = process
        self._errors = errors
        # 124 is `timeout`'s word for "its time was over".
        self._allowed = {*allowed, 124}
        self._patience_s = patience_s

    def ended(self) -> bool:
        """Running."""
        return self.process.poll() is not None

    def stop(self) -> None:
        """Running. Asks politely (SIGINT), then kills; at once where there is no patience."""
        if self.process.poll() is None:
            if self._patience_s:
                self.process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(self._patience_s)
            end_group(self.process)
            return  # how it took that is its own affair
        if self.process.returncode not in self._allowed:
            said = self._errors.read_text(errors="replace").strip().splitlines()
            words = [w for w in self.process.args if isinstance(w, str)]  # type: ignore[union-attr]
            raise LabError(
                f"{' '.join(words[4:])} ended with {self.process.returncode}: "
                f"{said[-1] if said else 'it said nothing'}"
            )


class Thread:
    """A function that runs until it is told to stop or is done."""

    def __init__(self, work: Callable[[threading.Event], None]) -> None:
        self._over = threading.Event()
        self._failed: list[OSError | LabError] = []
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work(self._over)
        except (OSError, LabError) as error:
            self._failed.append(error)

    def ended(self) -> bool:
        """Running."""
        return not self._thread.is_alive()

    def join(self, limit_s: float) -> None:
        """Wait for its end at most so long, and let it run on otherwise."""
        self._thread.join(limit_s)

    def stop(self) -> None:
        """Running."""
        self._over.set()
        self._thread.join()
        if self._failed:
            raise LabError(f"a host's traffic failed: {self._failed[0]}") from self._failed[0]


class Group:
    """Several that belong together."""

    def __init__(self, members: Sequence[Running]) -> None:
        self.members = tuple(members)

    def ended(self) -> bool:
        """Running."""
        return all(member.ended() for member in self.members)

    def stop(self) -> None:
        """Running. Stops all, then tells the first failure."""
        failed = []
        for member in self.members:
            try:
                member.stop()
            except LabError as error:
                failed.append(error)
        if failed:
            raise failed[0]
