"""Questions and orders of people in, answers of the running gateway out: `actions.Actions`."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ids_appliance import __version__
from ids_appliance.config import Config
from ids_appliance.gateway import classifiers
from ids_appliance.gateway.actions import (
    AllowEntry,
    AllowList,
    AllowOp,
    CellInfo,
    DecisionInfo,
    DecisionPage,
    Done,
    InterfaceInfo,
    Mode,
    Status,
    TriggerInfo,
    WhyInfo,
    WindowInfo,
)
from ids_appliance.gateway.paging import Pages
from ids_appliance.gateway.runtime import Gateway
from ids_appliance.gateway.sockets import forget_panic, leave_panic_flag
from ids_appliance.gateway.stories import response_name, standing_names
from ids_appliance.policy.allow import Allowed
from ids_appliance.policy.ledger import Active, Effect
from ids_appliance.policy.subjects import address_text, subject_text
from ids_appliance.telemetry.drills import is_drill, names_drill
from ids_appliance.trigger.window import WindowRecord
from ids_appliance.types import Subject


class Orders:
    """Implements `actions.Actions`. reload: reads the configuration again; raises IdsError."""

    def __init__(self, gateway: Gateway, *, reload: Callable[[], tuple[Config, list[str]]]) -> None:
        self._gateway = gateway
        self._reload = reload
        self._pages: Pages | None = None

    # Questions ---------------------------------------------------------------------------------

    def status(self) -> Status:
        """Say how everything is."""
        gateway = self._gateway
        counters = gateway.counters()
        window = gateway.appliance.window
        held = gateway.held_because()
        down = gateway.live.source.down
        now_ns = gateway.clocks.monotonic_ns()
        paused_ns = gateway.ledger.paused_until_ns
        compared = gateway.reconciled
        intended = gateway.kernel.intended
        missing = compared.intended - compared.found if compared is not None else 0
        ports = gateway.live.source.ports()
        return Status(
            version=__version__,
            pid=os.getpid(),
            uptime_s=(now_ns - gateway.started_ns) / 1e9,
            mode=gateway.mode,
            profile=gateway.config.profile,
            model=gateway.classifier.grid.model_id.hex(),
            node=", ".join(gateway.config.node.addresses) if gateway.mode == "offloaded" else "",
            interfaces=tuple(
                InterfaceInfo(
                    name=name,
                    up=name not in down,
                    frames=ports[name]["delivered"],
                    drops=ports[name]["kernel_drops"],
                )
                for name in gateway.live.names
            ),
            enforcing=not held,
            held=held,
            paused_s=max(0.0, (paused_ns - now_ns) / 1e9) if paused_ns is not None else 0.0,
            window=self._window(window.record) if window.record is not None else None,
            windows=window.counts["windows"],
            decisions=len(gateway.ledger.standing),
            intended=intended,
            found=max(0, intended - missing),
            alarms=tuple(alarms(gateway)),
            counters=counters,
        )

    def windows(self, n: int) -> Sequence[WindowInfo]:
        """Return the latest n windows, the latest first."""
        records = list(self._gateway.appliance.window.records)[-n:] if n > 0 else []
        return [self._window(record) for record in reversed(records)]

    def decisions(self, n: int) -> Sequence[DecisionInfo]:
        """Return at most n standing decisions, the latest first."""
        return [self._decision(active) for active in self._gateway.ledger.decisions()[: max(n, 0)]]

    def page(self, n: int, *, offset: int = 0, find: str = "") -> DecisionPage:
        """Return at most n standing decisions from the offset on that `find` is found in."""
        gateway = self._gateway
        if self._pages is None:
            self._pages = Pages(gateway.ledger, self._device)
        rows, matching = self._pages.page(n, offset=offset, find=find)
        return DecisionPage(
            rows=tuple(map(self._decision, rows)),
            total=len(gateway.ledger.standing),
            matching=matching,
            by_response=self._pages.by_response(),
            now_ns=gateway.clocks.wall_ns(),
        )

    def why(self, text: str) -> WhyInfo:
        """Explain what is known of a sender. Raises SubjectError."""
        gateway = self._gateway
        account = gateway.ledger.why(text)
        known = gateway.appliance.parts.policy.why(gateway.appliance.sender_of(account.subject))
        finding = account.finding
        cells = [
            CellInfo(cell=row["cell"], log_odds=row["log_odds"], packets=row["packets"])
            for row in known.get("cells", ())
        ]
        if not cells and finding is not None:
            cells = [
                CellInfo(cell=f"{cell:016x}", log_odds=one, packets=n)
                for cell, one, n in finding.cells[:10]
            ]
        score = known.get("score", finding.score if finding is not None else None)
        return WhyInfo(
            asked=text,
            subject=subject_text(account.subject),
            interface=account.subject.interface,
            address=address_text(account.address),
            device=self._device(account.subject, account.address),
            summary=account.summary,
            decision=self._decision(account.active) if account.active is not None else None,
            triggers=tuple(
                TriggerInfo(
                    rule=event.rule,
                    timestamp_ns=event.timestamp_ns,
                    detail=event.detail,
                )
                for event in account.events
            ),
            score=score,
            upper=known.get("upper", finding.bound if finding is not None else None),
            lower=known.get("lower"),
            packets=known.get("packets", finding.packets if finding is not None else 0),
            cells=tuple(cells),
            standing=standing_names(finding.standing) if finding is not None else (),
            allowed=account.allowed,
            protected=account.protected,
            doubted=account.doubted,
            ceiling=account.ceiling,
            others=account.others,
            history=account.history,
        )

    # Orders ------------------------------------------------------------------------------------

    def allow(self, op: AllowOp, text: str, *, interface: str = "", comment: str = "") -> AllowList:
        """Change the allow list and return the entries concerned. Raises SubjectError."""
        ledger = self._gateway.ledger
        before = ledger.allow_list()
        if op == "list":
            return AllowList(entries=tuple(map(_entry, before)))
        if op == "add":
            effect = ledger.allow_add(text, interface, comment=comment)
        else:
            effect = ledger.allow_remove(text, interface)
        self._gateway.carry_out(effect)
        self._gateway.protect()
        after = ledger.allow_list()
        concerned = [row for row in (*after, *before) if (row in after) != (row in before)]
        return AllowList(entries=tuple(map(_entry, concerned)), message=effect.message)

    def release(self, text: str) -> Done:
        """End the decisions about a sender, about everybody where `text` is empty."""
        return self._carry_out(self._gateway.ledger.release(text))

    def quarantine(self, text: str, for_s: float) -> Done:
        """Cut a sender off for so long. Protected ones are refused."""
        return self._carry_out(self._gateway.ledger.quarantine(text, for_s))

    def pause(self, for_s: float) -> Done:
        """Enforce nothing for so long; 0 ends a pause."""
        return self._carry_out(self._gateway.ledger.pause(for_s))

    def panic(self) -> Done:
        """Remove everything of ours from the kernel and only observe from now on."""
        effect = self._gateway.panic()
        leave_panic_flag(Path(self._gateway.config.run_dir))
        return Done(
            message="everything of ours is out of the kernel; only observing from now on",
            details=("`ids-appliance enforce on` goes on",),
            changed=1 + len(effect.ended),
        )

    def enforce(self, on: bool) -> Done:
        """Let decisions go into the kernel, or only be told."""
        done = self._carry_out(self._gateway.ledger.enforce(on))
        if on:
            forget_panic(Path(self._gateway.config.run_dir))
        return done

    def window(self, open_: bool) -> Done:
        """Open the scrutiny window, or close it."""
        gateway = self._gateway
        (gateway.manual.open if open_ else gateway.manual.close)()
        gateway.appliance.gate.tick(gateway.clocks.monotonic_ns())
        record = gateway.appliance.window.record
        if open_:
            number = record.id if record is not None else 0
            return Done(message=f"window {number} is open: every packet is judged", changed=1)
        return Done(
            message="no window is open"
            if record is None
            else "the window stays open: the trigger is `always`",
            changed=int(record is None),
        )

    def mode(self, name: Mode) -> Done:
        """Judge here, or on the node. Raises IdsError where that mode cannot be."""
        gateway = self._gateway
        if name == gateway.mode:
            return Done(message=f"mode is {name} already")
        made = classifiers.build(gateway.config, name, gateway.live.source.wake)
        gateway.classifier.switch(made)
        gateway.mode = name
        where = "here" if name == "gateway-only" else "on the node"
        return Done(message=f"mode is {name}: new cells are judged {where}", changed=1)

    def reload(self) -> Done:
        """Read configuration, model and certificates again."""
        config, waiting = self._reload()
        gateway = self._gateway
        made = classifiers.build(config, gateway.mode, gateway.live.source.wake)
        gateway.classifier.switch(made)
        gateway.config = config
        gateway.protection.relearn()
        gateway.look_around()
        gateway.log.reopen()
        details = [f"{name} takes a restart" for name in waiting]
        return Done(
            message="model, node and surroundings were read again",
            details=tuple(details),
            changed=1,
        )

    # -------------------------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> Done:
        self._gateway.carry_out(effect)
        changed = len(effect.apply) + len(effect.ended) + len(effect.lifted)
        return Done(message=effect.message, changed=max(1, changed))

    def _window(self, record: WindowRecord) -> WindowInfo:
        wall = self._gateway.clocks.wall_of
        return WindowInfo(
            id=record.id,
            cause=f"{record.rule} {record.key}".strip(),
            opened_ns=wall(record.opened_ns),
            closed_ns=wall(record.closed_ns) if record.closed_ns is not None else 0,
            why_closed=record.why,
            packets=record.seen,
            judged=record.judged,
            shed=record.shed,
            contained=record.contained,
            cells=record.cells_asked,
            votes=record.votes,
            triggers=record.triggers,
            decisions=record.decisions,
            drill=names_drill(record.sender),
        )

    def _decision(self, active: Active) -> DecisionInfo:
        decision = active.decision
        response = decision.response
        note = active.note
        would = active.would if active.would > response else response
        return DecisionInfo(
            number=decision.number,
            subject=subject_text(decision.subject),
            interface=decision.subject.interface,
            address=address_text(decision.address),
            device=self._device(decision.subject, decision.address),
            response=response_name(decision.subject, response),
            would=response_name(decision.subject, would) if would > response else "",
            probation=active.probation,
            reason=decision.reason,
            since_ns=decision.timestamp_ns,
            remaining_s=active.remaining_s,
            count=active.count,
            by_hand=active.by_hand,
            enforced=active.enforced and not note.startswith("not enforced"),
            note=note,
            score=decision.score,
            drill=is_drill(decision.subject.interface),
        )

    def _device(self, subject: Subject, address: bytes) -> str:
        mac = subject.value.hex(":") if len(subject.value) == 6 else ""
        return self._gateway.devices.label(mac, address_text(address))


def _entry(row: Allowed) -> AllowEntry:
    return AllowEntry(
        text=row.text, interface=row.interface, since_ns=row.since_ns, comment=row.comment
    )


def alarms(gateway: Gateway) -> list[str]:
    """Return what needs somebody's attention, one line each, the worst first."""
    found = []
    if held := gateway.held_because():
        found.append(held)
    if gateway.live.source.down:
        found.append(f"not captured at the moment: {', '.join(gateway.live.source.down)}")
    found += gateway.protection.contradicted
    if gateway.node_down:
        policy = gateway.config.failure.on_classifier_down
        found.append(classifiers.complaint(gateway.classifier.current, policy))
    if gateway.keeper.problem:
        found.append(gateway.keeper.problem)
    if gateway.log.problem:
        found.append(f"events are not written: {gateway.log.problem}")
    compared = gateway.reconciled
    if compared is not None and compared.found < compared.intended:
        found.append(f"the kernel had {compared.found} of {compared.intended} elements")
    return found
