"""Live traffic in, the highest score of every sender out; `calibrate INTERFACE --for 7d`.

What was learned lies in a state file: per sender its highest score, packets and hours, and nothing
of what it sent. A watch that was broken off goes on from there.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import msgspec

from ids_appliance import assemble
from ids_appliance.classify.local import LocalClassifier
from ids_appliance.cli.calibrating import AsIfOpen, Setup
from ids_appliance.cli.watch import stopped_by_signals
from ids_appliance.errors import BoundsError, InterfaceError
from ids_appliance.pipeline import Limits, Pipeline
from ids_appliance.policy.bounds import Settings, settings_of
from ids_appliance.policy.calibration import MAX_SENDERS, Calibration, Reached
from ids_appliance.policy.subjects import subject_of, told

SAVE_S: Final = 60.0
TELL_S: Final = 600.0
MAX_STATE_BYTES: Final = 64 << 20


class Watch(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The state file."""

    version: int = 1
    model_id: str
    settings: Settings
    watched_s: float = 0.0
    senders: dict[str, tuple[float, int, int]] = {}
    """Name -> highest score, packets, hours."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What a live calibration has come to."""

    reached: dict[str, Reached]
    data: dict[str, str]


def live_watch(
    interfaces: Sequence[str],
    setup: Setup,
    *,
    for_s: float,
    state: Path,
    tell: Callable[[Mapping[str, Reached]], None],
) -> Watched:
    """Watch until `for_s` seconds have been seen in all, or a signal comes.

    tell: shown what is known every ten minutes. Raises BoundsError for a state file of another
    model or policy; InterfaceError, PermissionMissing."""
    watch = read_state(state, setup)
    calibration = Calibration(setup.policy, setup.bounds, window_s=setup.window_s)
    with ExitStack() as stack:
        live = assemble.live(interfaces, on_event=lambda line: click.echo(line, err=True))
        stack.callback(live.source.close)
        for warning in live.warnings:
            click.echo(f"Warning: {warning}", err=True)
        classifier = LocalClassifier(setup.bundle)
        stack.callback(classifier.close)
        gate = None if setup.screen is None else AsIfOpen(setup.screen(), calibration)
        pipeline = Pipeline(
            live.source,
            classifier,
            calibration,
            host=live.host(),
            gate=gate,
            limits=Limits(shed=True, lockstep=True),
        )
        signals = stack.enter_context(stopped_by_signals())
        start = saved = shown = time.monotonic()
        changes = live.source.changes

        def so_far() -> Watch:
            seen = time.monotonic() - start
            return _with(watch, calibration.reached(), watched_s=watch.watched_s + seen)

        def tick() -> bool:
            nonlocal saved, shown, changes
            now = time.monotonic()
            if live.source.changes != changes:
                changes = live.source.changes
                with suppress(InterfaceError):  # gone just now: the next change is on its way
                    pipeline.set_host(live.host())
            if now >= saved + SAVE_S:
                saved = now
                write_state(so_far(), state)
            if now >= shown + TELL_S:
                shown = now
                tell(_reached(so_far()))
            return bool(signals) or watch.watched_s + now - start >= for_s

        left = for_s - watch.watched_s
        click.echo(f"watching {', '.join(live.names)} for {max(0.0, left):,.0f} s more", err=True)
        if left > 0:
            pipeline.run(tick)
        done = so_far() if left > 0 else watch
    write_state(done, state)
    seen = f"watched for {done.watched_s:,.0f} s"
    if done.watched_s < for_s:
        click.echo(f"broken off: {seen} of {for_s:,.0f}; the same command goes on", err=True)
    return Watched(_reached(done), dict.fromkeys(interfaces, seen))


def read_state(path: Path, setup: Setup) -> Watch:
    """Return what was learned before; a new one where there is no file. Raises BoundsError."""
    fresh = Watch(model_id=setup.bundle.grid.model_id.hex(), settings=settings_of(setup.policy))
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_STATE_BYTES + 1)
        if len(content) > MAX_STATE_BYTES:
            raise BoundsError(f"{path} is too large to be a calibration: name another --state")
        found = msgspec.json.decode(content, type=Watch)
    except FileNotFoundError:
        return fresh
    except OSError as error:
        raise BoundsError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise BoundsError(f"{path} is no calibration ({error}): name another --state") from error
    if (found.version, found.model_id, found.settings) != (1, fresh.model_id, fresh.settings):
        raise BoundsError(
            f"{path} belongs to another model or policy: remove it, or name another --state"
        )
    return found


def write_state(watch: Watch, path: Path) -> None:
    """Replace the state file at once. Raises BoundsError."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        staging.write_bytes(msgspec.json.encode(watch))
        os.replace(staging, path)
    except OSError as error:
        staging.unlink(missing_ok=True)
        raise BoundsError(f"cannot write {path}: {error.strerror}") from error


def _with(watch: Watch, reached: Mapping[bytes, Reached], *, watched_s: float) -> Watch:
    # By name, since interface indices change with a reboot.
    senders = dict(watch.senders)
    for sender, one in reached.items():
        subject = subject_of(sender, _interface)
        if subject is None:
            continue
        name = told(subject)
        if name in senders:
            one = one.merged(Reached(*senders[name]))
        senders[name] = (one.peak, one.packets, one.hours)
    if len(senders) > MAX_SENDERS:
        ranked = sorted(senders, key=lambda name: senders[name], reverse=True)
        senders = {name: senders[name] for name in ranked[:MAX_SENDERS]}
    return msgspec.structs.replace(watch, watched_s=watched_s, senders=senders)


def _reached(watch: Watch) -> dict[str, Reached]:
    return {name: Reached(*one) for name, one in watch.senders.items()}


def _interface(ifindex: int) -> str:
    try:
        return socket.if_indextoname(ifindex)
    except (OSError, OverflowError):
        return ""
