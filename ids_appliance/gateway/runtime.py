"""The running gateway: one loop judges packets, and looks after everything else between batches.

Threads beside it: one talks to the kernel's rules, one to the control sockets, one writes events,
one holds the link to the node. None of them is waited for here.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Literal

from ids_appliance.classify.switch import SwitchClassifier
from ids_appliance.config import Config
from ids_appliance.errors import InterfaceError
from ids_appliance.gateway import classifiers
from ids_appliance.gateway.appliance import Appliance, Ended, Parts, Told, give_up_under_pressure
from ids_appliance.gateway.clocks import Clocks
from ids_appliance.gateway.enforcement import Answer, Enforcement
from ids_appliance.gateway.healing import Healing
from ids_appliance.gateway.inline_path import open_live, path_of
from ids_appliance.gateway.keeper import Keeper
from ids_appliance.gateway.network import Interfaces, known_hosts
from ids_appliance.gateway.prescreen import Prescreen
from ids_appliance.gateway.protection import layout_above, protected_sets, router_macs
from ids_appliance.gateway.sockets import panicked
from ids_appliance.gateway.stages import make_enforcer, make_policy
from ids_appliance.gateway.stories import Stories, sender_name
from ids_appliance.gateway.surroundings import greet, look
from ids_appliance.pipeline import Limits, Pipeline
from ids_appliance.policy.allow import AllowList
from ids_appliance.policy.book import Clock
from ids_appliance.policy.guard import Guard
from ids_appliance.policy.kept import restore, snapshot
from ids_appliance.policy.ledger import Effect, Ledger
from ids_appliance.policy.protect import Protection
from ids_appliance.telemetry.devices import Devices
from ids_appliance.telemetry.events import EventLog
from ids_appliance.trigger import filter
from ids_appliance.trigger.manual import ManualTrigger
from ids_appliance.trigger.sample import SampleTrigger
from ids_appliance.trigger.window import Change
from ids_appliance.types import Applied, Reconciled, TriggerEvent

SECOND_NS: Final = 10**9
"""How often what is not about packets is looked after."""
PANICKED: Final = "panic: only observing; `ids-appliance enforce on` goes on"
SAVE_SHARE: Final = 20
"""At most one part in so many of the loop's time goes into copies of what is to be saved."""
SURROUNDINGS_NS: Final = 5 * SECOND_NS
"""How often routes, DNS servers, neighbours and sessions are looked at without being told."""


class Gateway:
    """One gateway from its configuration to its end; use as a context manager, then `run`.

    Raises IdsError in one line where it cannot start, and leaves nothing behind then.
    """

    def __init__(self, config: Config, clocks: Clocks, log: EventLog, *, devices: Devices) -> None:
        self.config = config
        self.clocks = clocks
        self.log = log
        self.devices = devices
        self.mode: Literal["gateway-only", "offloaded"] = config.mode
        self.started_ns = clocks.monotonic_ns()
        self.interfaces = Interfaces()
        self.stories = Stories(log.emit, self.interfaces.name)
        self.reconciled: Reconciled | None = None
        self.between: Callable[[], None] = lambda: None
        """Called between batches, for whoever serves orders."""
        self.every_second: Callable[[], None] = lambda: None
        self.more_counters: Callable[[], dict[str, int]] = dict
        """Totals of what stands around the gateway, such as the control sockets."""
        self._rules: Counter[str] = Counter()
        self._on_exit = ExitStack()
        self._stopping = False
        self._due_ns = self._look_due_ns = self._save_due_ns = 0
        self._filtered = False
        self.node_down = False
        """The node that should judge is known not to answer."""
        self._shed = 0
        self._held, self._routers = "", list[bytes]()

    def __enter__(self) -> "Gateway":
        with ExitStack() as stack:
            self._start(stack)
            self._on_exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._on_exit.close()

    def run(self) -> None:
        """Judge until `stop`; then save what is known. What is in the kernel stays until its time
        is over: a gateway that is away must not set attackers free."""
        self.pipeline.run(self._between)
        self.appliance.finish("the gateway stops")
        self._save(force=True)

    def hold(self, why: str) -> None:
        """Start without enforcing, whatever the configuration says; before it is entered."""
        self._held = why

    def stop(self) -> None:
        """End `run` soon; from a signal handler or any thread."""
        self._stopping = True
        self.live.source.wake()

    # Start -------------------------------------------------------------------------------------

    def _start(self, stack: ExitStack) -> None:
        config = self.config
        self.found = look(self.config)
        self.protection = Protection(config.protect, self.found)
        greet(self.found)
        self.live = open_live(self)
        stack.callback(self.live.source.close)
        for line in self.live.warnings:
            self.stories.health("capture", "warning", line)
        wake = self.live.source.wake
        self.classifier = SwitchClassifier(classifiers.build(config, self.mode, wake))
        stack.callback(self.classifier.close)
        self._wire(stack)
        self.path = path_of(self)
        self.pipeline = Pipeline(
            self.live.source,
            self.classifier,
            self.path.front,
            host=self.live.host(),
            gate=self.path.front,
            limits=Limits(shed=True),
        )
        self.appliance.pipeline = self.pipeline
        give_up_under_pressure(self.appliance, self.pipeline.pressure)
        self._changes = self.live.source.changes
        self._take_up()
        stack.callback(self.path.end)
        self.path.begin()

    def _wire(self, stack: ExitStack) -> None:
        config, clocks = self.config, self.clocks
        self.prescreen = Prescreen(
            config,
            wall_ns=clocks.wall_ns,
            networks=lambda: self.found.networks,
            lost=lambda: self.live.source.counters()["kernel_drops"],
            on_change=lambda state, line: self.stories.health("zeek", state, line),
        )
        stack.callback(self.prescreen.close)
        screen = self.prescreen.screen
        guard = Guard(self.protection, AllowList(), self.interfaces.neighbours)
        clock = Clock(now=clocks.monotonic_ns, wall=clocks.wall_ns)
        self.ledger = Ledger(
            config.policy, config.enforce, guard=guard, names=self.interfaces.name, clock=clock
        )
        self.keeper = Keeper(Path(config.state_dir), clocks=clocks)
        stack.callback(self.keeper.close)
        self._kernel_sets = protected_sets(guard, self.found)
        self.enforcer = make_enforcer(
            config,
            self._kernel_sets,
            names=self.live.names,
            above=layout_above(self.found),
            clock=clocks.monotonic,
            on_note=lambda kind, line: self.stories.health("enforcement", kind, line),
        )
        self.kernel = Enforcement(
            self.enforcer,
            reconcile_s=config.enforce.reconcile_s,
            clock=clocks.monotonic,
            wake=self.live.source.wake,
        )
        stack.callback(self.kernel.close)
        self.manual = ManualTrigger()
        parts = Parts(
            screen=self.prescreen.speaking,
            policy=make_policy(
                config.policy,
                self.classifier.grid.model_id,
                on_doubt=lambda line: self.stories.health("evidence", "warning", line),
            ),
            ledger=self.ledger,
            kernel=self.kernel,
            ifindex=self.interfaces.index,
            triggers=(self.manual, SampleTrigger(config.window), *self.prescreen.triggers),
        )
        self.screen = screen
        self.healing = Healing(
            screen,
            self.interfaces,
            clock=clocks.monotonic,
            on_note=lambda kind, line: self.stories.health("enforcement", kind, line),
        )
        stack.callback(self.healing.close)
        self._heals = config.enforce.heal_arp and config.enforce.backend == "nftables"
        self.appliance = Appliance(
            config,
            parts,
            clock=clocks.monotonic_ns,
            tell=self._told,
            on_answer=self._answered,
            before_deciding=self._meet,
        )

    def _take_up(self) -> None:
        """Let decisions of the last run hold again, with the time that is left of them."""
        kept = self.keeper.load()
        if kept is not None and kept.snapshot is not None:
            found = restore(self.ledger, kept.snapshot, elapsed_s=kept.elapsed_s)
            for line in found.notes:
                self.stories.health("state", "info", line)
            self.kernel.apply(() if self._held else found.decisions)
        if self._held:
            self.carry_out(self.ledger.enforce(False))
            self.stories.health("gateway", "warning", self._held)
        self.kernel.call(self.enforcer.settle)
        self.protect()

    # Between batches ---------------------------------------------------------------------------

    def _between(self) -> bool:
        self.between()
        self.path.tick()
        if self.kernel.waiting:
            self.appliance.settle()
        self.healing.tick()
        now_ns = self.clocks.monotonic_ns()
        if self.live.source.changes != self._changes:
            self._changes = self.live.source.changes
            self._network_changed()
        if now_ns >= self._due_ns:
            self._due_ns = now_ns + SECOND_NS
            self._second(now_ns)
        elif self.ledger.dirty and now_ns >= self._save_due_ns:
            self._save()  # a gateway that is killed now must know whom it has cut off
        return self._stopping

    def _second(self, now_ns: int) -> None:
        self.kernel.check()
        self.appliance.tick(now_ns)
        self.path.second(now_ns)
        if proven := self.appliance.proven():
            self.kernel.call(lambda: self.enforcer.set_proven(proven))
        for note in self.ledger.notes():
            self.stories.note(note)
        if now_ns >= self._look_due_ns:
            self._look_due_ns = now_ns + SURROUNDINGS_NS
            self.look_around()
        down = classifiers.down(self.classifier.current)
        if down != self.node_down:
            self.node_down = down
            policy = self.config.failure.on_classifier_down
            state, line = (
                ("down", classifiers.complaint(self.classifier.current, policy))
                if down
                else ("up", "the node judges")
            )
            self.stories.health("node", state, line)
        if limited := self.ledger.fail_closed(self._failing_closed()):
            self.carry_out(Effect("", apply=tuple(limited)))
        if panicked(Path(self.config.run_dir)) and self.ledger.enforcing:
            # Ordered while this loop stood still, and lost.
            self.panic()
            self.stories.health("gateway", "warning", PANICKED)
        self._save()
        self.every_second()

    def _failing_closed(self) -> str:
        """Return why whom a trigger names is limited unjudged, where the configuration asks."""
        before, self._shed = self._shed, self.pipeline.counters()["shed"]
        failure = self.config.failure
        if self.node_down and failure.on_classifier_down == "closed":
            return "no classifier answers (on_classifier_down: closed)"
        if self._shed > before and failure.on_queue_full == "closed":
            return "packets are given up (on_queue_full: closed)"
        return ""

    def _save(self, *, force: bool = False) -> None:
        for line in self.keeper.notes():
            self.stories.health("state", "warning", line)
        if self.ledger.dirty or self.keeper.failing or force:
            begin_ns = self.clocks.monotonic_ns()
            self.keeper.save(snapshot(self.ledger))
            end_ns = self.clocks.monotonic_ns()
            self._save_due_ns = end_ns + SAVE_SHARE * (end_ns - begin_ns)

    # For orders --------------------------------------------------------------------------------

    def carry_out(self, effect: Effect) -> None:
        """Let what follows from an order happen in the kernel, and evidence begin anew."""
        self.kernel.release([*effect.lifted, *(d.subject for d in effect.ended)])
        self.kernel.apply(effect.apply)
        for decision in effect.ended:
            self.stories.tell(Ended(decision))
        for decision in effect.apply:
            self.stories.tell(decision)
        self.appliance.released([d.subject for d in effect.ended])
        self.appliance.lifted(effect.lifted)

    def held_because(self) -> str:
        """Return why nothing new is enforced at the moment; "" where it is."""
        if not self.ledger.enforcing and panicked(Path(self.config.run_dir)):
            return PANICKED
        return self.ledger.held_because()

    def panic(self) -> Effect:
        """Remove everything of ours from the kernel, and only observe from now on."""
        effect = self.ledger.enforce(False)
        self.carry_out(effect)
        self.kernel.clear()
        return effect

    def counters(self) -> dict[str, int]:
        """Return every total of the gateway by name."""
        asked = {f"classifier_{name}": n for name, n in self.classifier.counters().items()}
        return (
            self.live.source.counters()
            | asked
            | {f"rule_{name}": n for name, n in self._rules.items()}
            | self.healing.counters()
            | self.prescreen.counters()
            | self.more_counters()
            | self.path.counters()
            | self.appliance.counters()
            | self.pipeline.counters()
            | self.log.counters()
            | {"state_saves": self.keeper.saved}
        )

    # The network around ------------------------------------------------------------------------

    def _network_changed(self) -> None:
        self.interfaces.refresh()
        self.appliance.renumbered()
        self.look_around()  # first: what stands on the ports now says who is beyond them
        self._know_ourselves()
        enforcer, above = self.enforcer, layout_above(self.found)
        self.kernel.call(lambda: enforcer.set_interfaces(self.live.names, above=above))
        self.path.changed()

    def _know_ourselves(self) -> None:
        self._routers = router_macs(self.protection)
        with suppress(InterfaceError):  # gone just now: the next change is on its way
            host = self.live.host()
            self.pipeline.set_host(host)
            if self.appliance.gate.overload is not None:
                self.appliance.gate.overload.host = host

    def look_around(self) -> None:
        """Take over what the network looks like now: who is protected depends on it."""
        self.found = look(self.config, reached=classifiers.reached(self.classifier.current))
        self._meet()
        if router_macs(self.protection) != self._routers:
            self._know_ourselves()
        self.protect()

    def _meet(self) -> None:
        """Let the ledger know who has which address; end decisions about whoever is let off."""
        ended = self.ledger.surround(self.found, known_hosts(self.screen, self.interfaces))
        if ended:
            self.carry_out(Effect("", ended=tuple(ended)))

    def protect(self) -> None:
        """Tell the kernel who is protected now, if that has changed."""
        sets = protected_sets(self.ledger.guard, self.found)
        if sets != self._kernel_sets:
            self._kernel_sets = sets
            self.kernel.call(lambda: self.enforcer.set_protected(sets))

    # What is told ------------------------------------------------------------------------------

    def _told(self, what: Told) -> None:
        if isinstance(what, Change):
            what.record.sender = sender_name(what.record.cause, self.interfaces.name)
            self._filter(not what.opened)
        elif isinstance(what, TriggerEvent):
            self._rules[what.rule] += 1
            self.healing.saw(what)
        self.path.saw(what)
        self.stories.tell(what)
        if isinstance(what, Applied) and self._heals:
            self.healing.acted(what)

    def _answered(self, what: Answer) -> None:
        if isinstance(what, Reconciled):
            self.reconciled = what
        if not isinstance(what, Applied):
            self.stories.answer(what)

    def _filter(self, closed: bool) -> None:
        """While the window is closed the kernel passes only what the rules need."""
        if self.path.filtered and self.config.window.socket_filter and self.prescreen.counts:
            if closed != self._filtered:
                self._filtered = closed
                self.screen.set_sampling(closed)
                self.live.source.set_filter(filter.CLOSED if closed else filter.OPEN)
