"""Containers that start and end in, their cables made anew out: `up`, again and again."""

import queue
import threading
from collections.abc import Callable

from ids_appliance.errors import MonitorError
from ids_appliance.monitor import containers
from ids_appliance.monitor.build import Building, Done


def follow(building: Building, say: Callable[[str], None], *, since: int) -> None:
    """Mend the monitor whenever one of its containers starts or ends, until the engine ends.

    `since`: seconds of the Unix epoch, before the monitor was looked at last. Raises MonitorError:
    no host is a container, or the engine's events have ended.
    """
    names = {host.container for host in building.monitor.hosts if host.container}
    if not names:
        raise MonitorError("--watch follows containers, and no host is one: leave it away")
    wanted = {host.engine for host in building.monitor.hosts if host.container}
    engines = wanted - {"auto"} | (set(containers.installed()) if "auto" in wanted else set())
    happened: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    for engine in engines:
        threading.Thread(target=_listen, args=(engine, since, happened), daemon=True).start()
    while True:
        engine, name = happened.get()
        if not name:
            raise MonitorError(f"the events of {engine} have ended: is it running?")
        if name in names:
            _mend(building, say)


def _mend(building: Building, say: Callable[[str], None]) -> Done | None:
    try:
        done = building.up(waiting=True)
    except MonitorError as error:
        say(f"not mended: {error}")  # the next event, or Open vSwitch coming back, may do it
        return None
    for line in done.lines:
        say(line)
    return done


def _listen(engine: str, since: int, happened: "queue.SimpleQueue[tuple[str, str]]") -> None:
    try:
        with containers.events(engine, since=since) as names:
            for name in names:
                if name:
                    happened.put((engine, name))
    finally:
        happened.put((engine, ""))
