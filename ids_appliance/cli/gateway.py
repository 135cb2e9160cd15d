"""`ids-appliance gateway`: the running gateway."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import msgspec

from ids_appliance import __version__
from ids_appliance.config import Config
from ids_appliance.config_file import host_port, load
from ids_appliance.errors import ControlError, IdsError
from ids_appliance.gateway.clocks import Clocks
from ids_appliance.gateway.control import Control, Order
from ids_appliance.gateway.notify import Notify
from ids_appliance.gateway.orders import Orders
from ids_appliance.gateway.runtime import PANICKED, Gateway
from ids_appliance.gateway.sockets import panicked
from ids_appliance.telemetry.devices import Devices
from ids_appliance.telemetry.events import EventLog
from ids_appliance.telemetry.metrics import Metrics
from ids_appliance.telemetry.notices import Notices
from ids_appliance.telemetry.traffic import Traffic
from ids_appliance.telemetry.vendors import installed

SECTIONS_AT_START = (
    *("interfaces", "taps", "state_dir", "run_dir", "group", "profile", "routers", "names"),
    *("leases", "trigger", "zeek", "window", "policy", "enforce", "protect", "events"),
    *("metrics", "ring", "tc", "notices", "inline"),
)
"""Settings that take a restart."""


def reloaded(running: Config, fresh: Config) -> tuple[Config, list[str]]:
    """Return what a reload puts into force, and which changed settings take a restart: these stay
    as they were. The loop asks for some of them again (which interfaces, whose panic flag)."""
    at_start = {name: getattr(running, name) for name in SECTIONS_AT_START}
    waiting = [name for name, value in at_start.items() if getattr(fresh, name) != value]
    before, after = running.failure, fresh.failure
    if running.inline.enabled and after != before:  # whoever holds packets has asked once
        at_start["failure"] = before
        waiting.append("failure")
    elif after.on_overload != before.on_overload:
        at_start["failure"] = msgspec.structs.replace(after, on_overload=before.on_overload)
        waiting.append("failure.on_overload")
    return msgspec.structs.replace(fresh, **at_start), waiting


def known_devices(config: Config) -> Devices:
    """Return what the configuration and its lease file call devices, and who made them."""
    return Devices(config.names, installed(), leases=config.leases)


@contextmanager
def _signals(gateway: Gateway, hang_ups: list[int]) -> Iterator[None]:
    """SIGTERM and SIGINT end the gateway in good order, SIGHUP is noted for the loop."""

    def stop(number: int, _frame: object) -> None:
        gateway.stop()
        signal.signal(number, signal.SIG_DFL)  # a second one ends it at once

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, stop),
        signal.SIGINT: signal.signal(signal.SIGINT, stop),
        signal.SIGHUP: signal.signal(signal.SIGHUP, lambda number, _: hang_ups.append(number)),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Configuration (TOML).",
)
@click.option(
    "--mode",
    type=click.Choice(["gateway-only", "offloaded"]),
    help="Judge here, or on the node; instead of the configuration's mode.",
)
def command(path: Path, mode: str | None) -> None:
    """Run the gateway: watch, look closer where it is needed, judge, act.

    It captures the configured interfaces, opens the scrutiny window when a rule fires, judges every
    packet while it is open, and limits or cuts off whom the evidence convicts, in the kernel. A
    fresh installation only observes: `enforce.enabled` or `ids-appliance enforce on` changes that.
    Ask it with `status`, `windows`, `decisions` and `why`; `ids-appliance check` reads the
    configuration without changing anything.

    Needs root, or CAP_NET_ADMIN and CAP_NET_RAW. SIGHUP reloads, SIGTERM ends it; what is cut off
    stays so until its time is over, and a gateway that starts again takes its decisions up.

    \b
    Examples:
      ids-appliance gateway --config /etc/ids-appliance/gateway.toml
      ids-appliance gateway --config gateway.toml --mode offloaded
    """
    config = load(path, mode=mode)
    with ExitStack() as stack:
        _run(stack, config, path, mode=mode)


def _run(stack: ExitStack, config: Config, path: Path, *, mode: str | None) -> None:
    clocks = Clocks(monotonic_ns=time.monotonic_ns, wall_ns=time.time_ns)
    _directory(Path(config.state_dir), 0o700)
    _directory(Path(config.run_dir), 0o755)
    devices = known_devices(config)
    log = EventLog(
        config.events,
        path=Path(config.state_dir, "events.jsonl"),
        clock_ns=clocks.wall_ns,
        host=socket.gethostname(),
        describe=devices,
    )
    stack.callback(log.close)
    gateway = Gateway(config, clocks, log, devices=devices)

    def reload() -> tuple[Config, list[str]]:
        return reloaded(config, load(path, mode=mode))

    orders = Orders(gateway, reload=reload)
    control = Control(
        Path(config.run_dir),
        orders,
        on_write=lambda order: _note(gateway, order),
        wake=lambda: gateway.live.source.wake(),
        group=config.group,
    )
    stack.callback(control.close)
    traffic = Traffic()
    notices = Notices(
        config.notices,
        host=socket.gethostname(),
        clock=time.monotonic,
        note=lambda state, line: gateway.stories.health("notices", state, line),
    )
    stack.callback(notices.close)
    log.publish_to(notices.take)
    gateway.more_counters = lambda: control.counters() | traffic.counters() | notices.counters()
    if panicked(Path(config.run_dir)):
        gateway.hold(PANICKED)
    stack.enter_context(gateway)
    gateway.path.watch(traffic.count)
    log.publish_to(control.publish)
    metrics = Metrics({"version": __version__, "mode": gateway.mode})
    stack.callback(metrics.close)
    if config.metrics.listen:
        metrics.serve(host_port(config.metrics.listen))
    notify = Notify(os.environ)
    hang_ups: list[int] = []
    beats = _Beats(gateway, metrics, notify, stats_s=config.events.stats_s)

    def between() -> None:
        control.serve_pending()
        if hang_ups:
            hang_ups.clear()
            read_again(gateway, orders)

    gateway.between = between
    gateway.every_second = beats.beat
    with _signals(gateway, hang_ups):
        control.start()
        _say_start(gateway)
        notify.ready(f"{gateway.mode} on {', '.join(gateway.live.names)}")
        gateway.run()
        notify.stopping()
    gateway.stories.health("gateway", "stopped", "the gateway has stopped")
    beats.tell()


def read_again(gateway: Gateway, orders: Orders) -> None:
    """Reload for a SIGHUP: nobody waits for an answer, so all of it goes into the log."""
    try:
        done = orders.reload()
    except IdsError as error:
        gateway.stories.health("gateway", "warning", f"not reloaded: {error}")
        return
    # Whoever has named himself in [protect] must not believe that this is in force.
    state = "warning" if done.details else "info"
    gateway.stories.health("gateway", state, "; ".join((done.message, *done.details)))


class _Beats:
    """What is said once a second, and once in `stats_s`."""

    def __init__(
        self, gateway: Gateway, metrics: Metrics, notify: Notify, *, stats_s: float
    ) -> None:
        self._gateway = gateway
        self._metrics = metrics
        self._notify = notify
        self._stats_s = stats_s
        self._due_s = 0.0

    def beat(self) -> None:
        """Tell the service manager and Prometheus how it is."""
        self._notify.alive()
        self._metrics.update(self._gateway.counters())
        now = self._gateway.clocks.monotonic()
        if self._stats_s and now >= self._due_s:
            self._due_s = now + self._stats_s
            self._gateway.devices.refresh()
            self.tell()

    def tell(self) -> None:
        """Put every counter into the event log."""
        self._gateway.log.emit("stats", **self._gateway.counters())


def _note(gateway: Gateway, order: Order) -> None:
    """Every order is in the event log, carried out or not."""
    gateway.stories.health(
        "order",
        "done" if order.outcome == "done" else "refused",
        f"{order.action} by uid {order.peer.uid} (pid {order.peer.pid})",
        by_uid=order.peer.uid,
        action=order.action,
        details=order.details,
        outcome=order.outcome,
    )


def _say_start(gateway: Gateway) -> None:
    """Log what runs and how it fails, and say it on standard error."""
    config = gateway.config
    failure = config.failure
    held = gateway.held_because()
    gateway.stories.health(
        "gateway",
        "started",
        f"ids-appliance {__version__}, {gateway.mode}, on {', '.join(gateway.live.names)}",
        model=gateway.classifier.grid.model_id,
        trigger=config.trigger.kind,
        policy=config.policy.kind,
        on_classifier_down=failure.on_classifier_down,
        on_queue_full=failure.on_queue_full,
        on_overload=failure.on_overload,
        enforcing=not held,
    )
    acting = f"not acting ({held})" if held else f"acting by {config.enforce.backend}"
    click.echo(f"gateway on {', '.join(gateway.live.names)}, {gateway.mode}, {acting}", err=True)


def _directory(where: Path, mode: int) -> None:
    try:
        where.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise ControlError(f"{where} cannot be made: {error.strerror}") from error
