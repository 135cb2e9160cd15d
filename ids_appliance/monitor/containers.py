"""Names of containers in, their processes out; and what happens to them, as it happens."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from ids_appliance.errors import MonitorError
from ids_appliance.monitor import commands

Engine = Literal["auto", "docker", "podman"]
ENGINES: Final = ("docker", "podman")


def engine_of(container: str, engine: Engine) -> str:
    """Return which engine knows a container. Raises MonitorError."""
    if engine != "auto":
        return engine
    there = installed()
    if not there:
        raise MonitorError(
            f"container {container!r}: neither docker nor podman is installed: "
            "apt-get install podman, or give a namespace instead"
        )
    for one in there:
        if _state(one, container):
            return one
    raise MonitorError(
        f"there is no container {container!r}: {there[0]} run --detach --network none "
        f"--name {container} IMAGE"
    )


def installed() -> list[str]:
    """Return the engines that are installed."""
    return [one for one in ENGINES if shutil.which(one)]


def process_of(container: str, engine: Engine) -> int:
    """Return the id of a running container's first process. Raises MonitorError."""
    chosen = engine_of(container, engine)
    state = _state(chosen, container)
    if not state:
        raise MonitorError(f"{chosen} has no container {container!r}, or does not answer")
    if not state.isdigit() or int(state) == 0:
        raise MonitorError(f"container {container!r} does not run: {chosen} start {container}")
    return int(state)


def _state(engine: str, container: str) -> str:
    words = (engine, "container", "inspect", "--format", "{{.State.Pid}}", container)
    return commands.run(*words, check=False).strip()


@contextmanager
def events(engine: str, *, since: int) -> Iterator[Iterator[str]]:
    """Give the names of containers as they start and end, until the engine itself ends.

    From `since` on (seconds of the Unix epoch), so that nothing is missed before it is asked.
    """
    form = "{{.Actor.Attributes.name}}" if engine == "docker" else "{{.Name}}"
    words = [engine, "events", "--since", str(since), "--format", form]
    words += ["--filter", "event=start"]
    words += ["--filter", "event=die" if engine == "docker" else "event=died"]
    try:
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
        )
    except FileNotFoundError:
        raise commands.not_installed(engine) from None
    assert process.stdout is not None
    try:
        yield (line.strip() for line in process.stdout)
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def namespace_of(process: int) -> tuple[int, int]:
    """Return what tells a process's network namespace from others. Raises MonitorError."""
    try:
        found = os.stat(f"/proc/{process}/ns/net")
    except OSError as error:
        raise MonitorError(f"the container's process {process} has ended: try again") from error
    return found.st_dev, found.st_ino
