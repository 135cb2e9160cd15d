"""`ids-appliance monitor capture`: frames of an interface in, capture files of the caller's out."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
import msgspec

from ids_appliance.cli.durations import duration, duration_or_zero
from ids_appliance.config import Events
from ids_appliance.errors import CaptureError, ConfigError
from ids_appliance.monitor import container
from ids_appliance.monitor.capture import Account, Recorder
from ids_appliance.monitor.capture_settings import Capture
from ids_appliance.monitor.container import Tap
from ids_appliance.monitor.onefile import OneFile
from ids_appliance.monitor.ownership import Caller
from ids_appliance.monitor.read import DEFAULT_PATH, load
from ids_appliance.monitor.rotation import Limits, Ring
from ids_appliance.monitor.settings import Monitor
from ids_appliance.telemetry.events import EventLog

EVENTS = "events.jsonl"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The options of the command, as they were given."""

    config: Path | None
    interface: str
    namespace: str
    mirror: str
    write: Path | None
    ring: Path | None
    count: int
    seconds: float | None
    events: Path | None


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="The monitor's file (or s3).")
@click.option("--mirror", default="", help="The mirror whose output is read, if there are several.")
@click.option("--interface", default="", help="Any interface instead, also none of the switch's.")
@click.option("--namespace", default="", help="Network namespace that the interface is in.")
@click.option("--filter", "filter_", help="Which frames, as in pcap-filter(7).")
@click.option("--count", type=click.IntRange(min=0), default=0, help="End after so many frames.")
@click.option(
    "--for",
    "seconds",
    callback=lambda c, p, v: v and duration(c, p, v),
    help="End after this time, such as 10m.",
)
@click.option(
    "--snap",
    "snap_bytes",
    type=click.IntRange(0, 262_144),
    help="Bytes kept of each frame; 0: all.",
)
@click.option("--buffer-mib", type=click.IntRange(1, 1_024), help="Kernel memory for the frames.")
@click.option("--write", type=click.Path(path_type=Path), help="One file, there when complete.")
@click.option("--ring", type=click.Path(path_type=Path), help="Folder for a ring of files.")
@click.option("--file-mib", type=click.FloatRange(0.01, 65_536), help="Size of a ring's file.")
@click.option(
    "--every",
    "every_s",
    callback=lambda c, p, v: v and duration_or_zero(c, p, v),
    help="Age of a ring's file, such as 10m; 0: any.",
)
@click.option("--files", type=click.IntRange(1, 100_000), help="Files that a ring keeps.")
@click.option(
    "--keep-free-mib",
    type=click.FloatRange(0, 1_048_576),
    help="Room on the disk that a ring leaves to others.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "docker", "podman", "none"]),
    help="Who runs tcpdump; none: this machine, equally confined.",
)
@click.option("--image", help="The container image with tcpdump.")
@click.option("--events", type=click.Path(path_type=Path), help="Event log; FOLDER/events.jsonl.")
def command(filter_: str | None, **options: Any) -> None:
    """Record what a mirror sends, or what any interface sees, with tcpdump.

    tcpdump runs shut away, as nobody with CAP_NET_RAW alone: in a container where docker or podman
    have the image (monitor image), else on this machine. Only this command writes files. They are
    the caller's, also behind sudo. Ctrl-C ends a capture in order. What the kernel or the disk
    did not take is counted and told.

    With --ring, files are finished by size and age, listed in SHA256SUMS, and the oldest give way;
    on a full disk they give way early. An interface that goes away is waited for.

    \b
    Examples:
      ids-appliance monitor capture --config s3 --count 100 --write trafh1h2.pcap
      ids-appliance monitor capture --interface eth0 --filter "tcp port 1883" --write mqtt.pcap
      ids-appliance monitor capture --interface mon0 --ring /var/lib/captures --files 48 --every 1h
    """
    given = {"filter": filter_, **options}
    names = {field.name for field in fields(_Wanted)}
    wanted = _Wanted(**{name: given[name] for name in names})
    if (wanted.write is None) == (wanted.ring is None):
        raise ConfigError("say where to: either --write FILE or --ring FOLDER")
    monitor = _monitor(wanted)
    settings = monitor.capture if monitor else Capture()
    changed = {n: given[n] for n in Capture.__struct_fields__ if given.get(n) is not None}
    settings = msgspec.structs.replace(settings, **changed)
    tap = _tap(wanted, monitor, settings)
    engine = container.choose(settings.engine, tap, image=settings.image)
    if engine != "none":
        container.sweep(engine)
    words = container.words(engine, tap, image=settings.image)
    by = f"by {engine}" if engine != "none" else "on this machine"
    with ExitStack() as stack:
        if wanted.ring is not None:
            _ring(stack, wanted, settings, words=words, tap=tap, by=by)
        else:
            _one(stack, wanted, words=words, tap=tap, by=by)


def _monitor(wanted: _Wanted) -> Monitor | None:
    if wanted.config is None and wanted.interface:
        return None
    if wanted.config is None and not Path(DEFAULT_PATH).exists():
        raise ConfigError("say what to capture: --interface NAME, or --config FILE of a monitor")
    return load(wanted.config or DEFAULT_PATH)


def _tap(wanted: _Wanted, monitor: Monitor | None, settings: Capture) -> Tap:
    what: dict[str, str] = {"interface": wanted.interface, "namespace": wanted.namespace}
    if monitor is not None and not wanted.interface:
        what = _output(monitor, wanted.mirror)
    return Tap(
        **what,
        filter=settings.filter,
        count=wanted.count,
        snap_bytes=settings.snap_bytes,
        buffer_mib=settings.buffer_mib,
    )


def _output(monitor: Monitor, name: str) -> dict[str, str]:
    """Return where the output of a mirror is read. Raises ConfigError."""
    found = [mirror for mirror in monitor.mirrors if name in ("", mirror.name)]
    if len(found) != 1:
        known = ", ".join(mirror.name for mirror in monitor.mirrors) or "none"
        raise ConfigError(f"which mirror? Choose one with --mirror ({known}), or --interface")
    for host in monitor.hosts:
        if host.name == found[0].output:
            where = {"namespace": host.namespace, "container": host.container}
            return {"interface": host.inside, **where}
    return {"interface": found[0].output}


def _one(stack: ExitStack, wanted: _Wanted, *, words: list[str], tap: Tap, by: str) -> None:
    assert wanted.write is not None
    sink = OneFile(wanted.write, Caller.of(os.environ))
    stack.callback(sink.close)
    recorder = Recorder(words, tap.where, tell=_tell, clock=time.monotonic)
    show = _Show(recorder, sink, f"capturing at {tap.where} {by} into {wanted.write}")

    def look() -> None:
        show()
        if sink.problem or show.over(wanted.seconds):
            recorder.stop()

    try:
        with _ended_by_signals(recorder.stop):
            recorder.once(sink, look)
    finally:
        show.end()
        if sink.size:
            sink.finish()
    account = recorder.account(sink)
    click.echo(f"{wanted.write}: {_text(account, last=True)} · {sink.size:,} bytes")
    click.echo(f"{sink.sha256}  {wanted.write.name}")
    if sink.problem:
        raise CaptureError(
            f"{wanted.write} ends early ({sink.problem}): {sink.frames} frames are in it, "
            f"{sink.discarded} later ones are not"
        )


def _ring(
    stack: ExitStack,
    wanted: _Wanted,
    settings: Capture,
    *,
    words: list[str],
    tap: Tap,
    by: str,
) -> None:
    assert wanted.ring is not None
    log: list[EventLog] = []

    def tell(what: str, detail: str, **figures: int | str) -> None:
        _tell(what, detail)
        for one in log:
            told: dict[str, Any] = {"what": what, "detail": detail, **figures}
            one.emit("health", interface=tap.interface, **told)

    mib = 1 << 20
    limits = Limits(
        file_bytes=int(settings.file_mib * mib),
        files=settings.files,
        every_s=settings.every_s,
        keep_free_bytes=int(settings.keep_free_mib * mib),
    )
    caller = Caller.of(os.environ)
    ring = Ring(
        wanted.ring, tap.interface, limits=limits, caller=caller, tell=tell, clock=time.monotonic
    )
    path = wanted.events or wanted.ring / EVENTS
    events = EventLog(Events(), path=path, clock_ns=time.time_ns, host=socket.gethostname())
    stack.callback(events.close)
    stack.callback(ring.close)
    caller.give_path(path)
    log.append(events)
    recorder = Recorder(words, tap.where, tell=tell, clock=time.monotonic)
    show = _Show(recorder, ring, f"capturing at {tap.where} {by} into {wanted.ring}")

    def look() -> None:
        show()
        kept = recorder.account(ring).kept
        if show.over(wanted.seconds) or 0 < wanted.count <= kept:
            recorder.stop()

    try:
        with _ended_by_signals(recorder.stop):
            if wanted.count:
                recorder.once(ring, look)
            else:
                recorder.keep_on(ring, look)
    finally:
        show.end()
        ring.close()
        account = recorder.account(ring)
        figures = {n: getattr(account, n) for n in account.__slots__}
        events.emit("stats", interface=tap.interface, capture=figures)
    text = _text(account, last=True)
    click.echo(f"{wanted.ring}: {text} · {ring.finished} files, {ring.size:,} bytes")


class _Show:
    """One line when it begins; on a terminal the present figures once a second."""

    def __init__(self, recorder: Recorder, sink: Any, title: str) -> None:
        self._recorder = recorder
        self._sink = sink
        self._title = title
        self._began: float | None = None
        self._live = sys.stderr.isatty()

    def __call__(self) -> None:
        if not self._recorder.listening:
            return
        if self._began is None:
            self._began = time.monotonic()
            click.echo(f"{self._title}; Ctrl-C ends it", err=True)
        elif self._live:
            text = _text(self._recorder.account(self._sink))
            click.echo(f"\r{text}\033[K", nl=False, err=True)

    def over(self, seconds: float | None) -> bool:
        """Return whether the time is over that was asked for."""
        return bool(seconds and self._began and time.monotonic() - self._began >= seconds)

    def end(self) -> None:
        """Leave the line."""
        if self._live and self._began is not None:
            click.echo("\r\033[K", nl=False, err=True)


def _text(account: Account, *, last: bool = False) -> str:
    """Return an account as people read it; only in the last one tcpdump's count is up to date."""
    lost = f"kernel dropped {account.kernel_drops:,}"
    for number, what in (
        (account.interface_drops, "interface dropped"),
        (account.discarded, "found no room on the disk:"),
        (account.interruptions, "interrupted:"),
        (account.unaccounted if last else 0, "unaccounted"),
    ):
        lost += f" · {what} {number:,}" if number else ""
    return f"{account.kept:,} frames · {lost}"


def _tell(what: str, detail: str, **figures: int | str) -> None:
    """Say an event to people, who need neither its name nor its figures."""
    del what, figures
    click.echo(detail, err=True)


@contextmanager
def _ended_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Let the first SIGINT, SIGTERM or SIGHUP end the capture in order, a second one at once."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(_number: int, _frame: object) -> None:
        restore()
        stop()

    for number in numbers:
        signal.signal(number, note)
    try:
        yield
    finally:
        with suppress(ValueError):
            restore()
