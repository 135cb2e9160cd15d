"""A gateway's settings in, how its packets pass out: tapped, or held in a queue for their verdict.

`begin` puts the rule in place once everything behind it works, `end` takes it away before anything
behind it stops; a gateway that is killed leaves a rule that lets packets pass (bypass).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ids_appliance import assemble
from ids_appliance.capture.inline import InlineSource
from ids_appliance.capture.nfqueue import QueueOptions
from ids_appliance.capture.ring import RingOptions
from ids_appliance.enforce.nft import NftError
from ids_appliance.enforce.queue_rule import QueueRule
from ids_appliance.errors import EnforceError, InlineError
from ids_appliance.gateway.appliance import Appliance, Ended
from ids_appliance.gateway.inline import Around, InlineVerdicts, spared_by
from ids_appliance.gateway.inline_log import DropLog
from ids_appliance.gateway.inline_model import PacketModel
from ids_appliance.gateway.protection import layout_above, router_macs
from ids_appliance.gateway.sockets import panicked
from ids_appliance.types import FrameBatch

if TYPE_CHECKING:
    from ids_appliance.gateway.runtime import Gateway

LOOK_NS: Final = 2 * 10**9
"""How often it is asked whether the rule is still there."""


class Tapped:
    """Packets are watched while they pass: there is nothing to do here."""

    filtered = True
    """The kernel may keep frames back that the rules do not need."""

    def __init__(self, gateway: "Gateway", front: "Appliance | InlineVerdicts") -> None:
        self._gateway = gateway
        self.front = front
        """The pipeline's gate and sink."""

    def begin(self) -> None:
        """Everything is ready for packets."""

    def end(self) -> None:
        """Nobody judges any more."""

    def tick(self) -> None:
        """Between batches."""

    def watch(self, count: Callable[[FrameBatch], None]) -> None:
        """Let somebody count every batch."""
        self._gateway.appliance.gate.on_frames = count

    def second(self, now_ns: int) -> None:
        """Once a second; monotonic nanoseconds."""

    def saw(self, what: object) -> None:
        """Something has happened in the appliance."""

    def changed(self) -> None:
        """Interfaces came, went or changed."""

    def counters(self) -> dict[str, int]:
        """Totals by name."""
        return {}


class Inlined(Tapped):
    """Packets that are routed wait for their verdict. For the loop's thread; what the kernel's
    rules need is done in the enforcement's."""

    filtered = False

    def __init__(self, gateway: "Gateway", source: InlineSource) -> None:
        """Raises BundleError."""
        config, clocks = gateway.config, gateway.clocks
        self._source = source
        self._gateway = gateway
        self._uncounted: FrameBatch | None = None
        self._count: Callable[[FrameBatch], None] = lambda batch: None
        self._look_due_ns = 0
        self._down = False
        self.rule = QueueRule(
            config.inline.queue,
            max_clean=config.inline.bypass_flows,
            queues=config.inline.queues,
        )
        self.verdicts = InlineVerdicts(
            config,
            gateway.appliance,
            source,
            around=Around(
                enforcing=self._enforcing,
                spared=spared_by(gateway.ledger.guard.refuses, gateway.interfaces.name),
                name=gateway.interfaces.name,
                clock_ns=clocks.monotonic_ns,
                wall_ns=clocks.wall_ns,
            ),
            log=DropLog(
                gateway.log.emit,
                per_second=config.inline.log_per_second,
                clock_ns=clocks.monotonic_ns,
            ),
            model=PacketModel(assemble.bundle(Path(config.model))) if config.model else None,
        )
        source.patience_s = min(source.patience_s, config.inline.deadline_ms / 1000)
        super().__init__(gateway, self.verdicts)

    def begin(self) -> None:
        """Let packets wait from now on, unless everything of ours has to stay out of the kernel.

        Raises InlineError, PermissionMissing."""
        if not self._out():
            self._install()
            inline = self._gateway.config.inline
            more = f" and {inline.queues - 1} more" if inline.queues > 1 else ""
            self._say(f"inline: routed packets wait in queue {inline.queue}{more}")

    def end(self) -> None:
        """Let packets pass beside us, then those that wait still; safe to call twice."""
        try:
            self.rule.let_pass()
        except EnforceError:  # somebody has removed it: nothing comes
            pass
        self._source.drain()
        if self.rule.installed:
            try:
                self.rule.remove()
            except EnforceError as error:
                self._say(f"the inline rule is left ({error}); it lets packets pass", bad=True)

    def tick(self) -> None:
        """Look for packets past their deadline, and for flows that come back into the queue."""
        if self._uncounted is not None:
            self._count(self._uncounted)
            self._uncounted = None
        self.verdicts.tick()
        if self.verdicts.doubted:
            doubted, self.verdicts.doubted = self.verdicts.doubted, set()
            flows = self.verdicts.flows
            if flows is not None and (back := flows.doubt(doubted)):
                self._gateway.kernel.call(lambda: self.rule.judge_again(back))

    def watch(self, count: Callable[[FrameBatch], None]) -> None:
        """Let somebody count every batch, but after its verdict: its packets wait for that."""
        self._count = count
        self._gateway.appliance.gate.on_frames = self._keep

    def _keep(self, batch: FrameBatch) -> None:
        self._uncounted = batch

    def second(self, now_ns: int) -> None:
        """Follow what is enforced; let flows judged clean pass; see that the rule stands."""
        self.verdicts.refresh()
        out = self._out()
        if out and self.rule.installed:
            self._order(self._withdraw)
        elif not out and (self.rule.passing or not self.rule.installed) and not self._down:
            self._order(self._install)
        flows = self.verdicts.flows
        if flows is not None and not out and (clean := flows.due(now_ns / 1e9)):
            for_s = self._gateway.config.inline.bypass_s
            self._order(lambda: self.rule.pass_by(clean, for_s=for_s))
        self._order(self.rule.count)
        if now_ns >= self._look_due_ns:
            self._look_due_ns = now_ns + LOOK_NS
            if not out:
                self._order(self._look)

    def saw(self, what: object) -> None:
        """Judge packet by packet again whom a trigger or a decision names."""
        if isinstance(what, Ended):
            self.verdicts.released(what.decision)
        else:
            self.verdicts.saw(what)

    def changed(self) -> None:
        """Put the rule at the interfaces that there are now."""
        if not self._out():
            self._order(self._install)

    def counters(self) -> dict[str, int]:
        """Return totals by name. forward_queued = queue_received + what passed the queue unjudged
        (nobody there, or full and open) + what it dropped."""
        return self.verdicts.counters() | self.rule.counters()

    # -------------------------------------------------------------------------------------------

    def _enforcing(self) -> bool:
        ledger = self._gateway.ledger
        if self._gateway.config.inline.drop == "packet":
            # The published way has no breaker: what is about senders does not hold packets.
            return ledger.enforcing and ledger.paused_until_ns is None
        return not ledger.held_because()

    def _out(self) -> bool:
        return panicked(Path(self._gateway.config.run_dir)) and not self._gateway.ledger.enforcing

    def _install(self) -> None:
        found = self._gateway.found
        self.rule.install(self._gateway.live.names, layout_above(found))
        self._down = False

    def _withdraw(self) -> None:
        """In two steps, a second apart: what waits has its verdict between them."""
        if self.rule.passing:
            self.rule.remove()
        else:
            self.rule.let_pass()

    def _look(self) -> None:
        if self.rule.installed and not self.rule.stands():
            self._install()
            raise InlineError("the inline rule was gone, by another's hand: it is back")

    def _order(self, what: Callable[[], None]) -> None:
        """Let the enforcement's thread do it; what goes wrong is told as its answer."""

        def order() -> None:
            try:
                what()
            except NftError as error:
                raise InlineError(f"inline: the kernel refuses: {error}") from error

        self._gateway.kernel.call(order)

    def _say(self, line: str, *, bad: bool = False) -> None:
        self._gateway.stories.health("inline", "warning" if bad else "info", line)


def open_live(gateway: "Gateway") -> assemble.Live:
    """Open what the gateway captures: the ring, and the queue where packets are held.

    Raises InterfaceError, PermissionMissing, InlineError."""
    config = gateway.config
    ring = RingOptions(
        # A block that is not full is handed over all the same, so their number, times retire_ms,
        # is how long we may be kept from reading: 0.5 s of 16 MiB. The longest frame fits into one.
        block_bytes=1 << 17,
        blocks=config.ring.mib * 8,
        retire_ms=config.ring.retire_ms,
        promiscuous=config.ring.promiscuous,
        taps=config.taps,
    )
    inline = None
    if config.inline.enabled:
        options = QueueOptions(
            number=config.inline.queue,
            copy_bytes=config.inline.copy_bytes,
            length=config.inline.length,
            fail_open=config.inline.fail_open,
            reader=config.inline.reader,
            queues=config.inline.queues,
        )
        inline = assemble.Queued(options, gateway.clocks.wall_ns, lambda: _met(gateway))
    return assemble.live(
        config.interfaces,
        ring,
        on_event=lambda line: gateway.stories.health("capture", "warning", line),
        routers=lambda: router_macs(gateway.protection),
        inline=inline,
    )


def path_of(gateway: "Gateway") -> Tapped:
    """Return how packets pass the gateway, whose stages stand. Raises BundleError."""
    if isinstance(gateway.live.source, InlineSource):
        return Inlined(gateway, gateway.live.source)
    return Tapped(gateway, gateway.appliance)


def _met(gateway: "Gateway") -> Sequence[tuple[str, str]]:
    """Return (bridge or VLAN, captured port under it) of this moment."""
    return [(upper, port) for port, upper in gateway.found.above]
