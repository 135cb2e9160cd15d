"""Whatever happens in whatever order: nobody protected is decided about, and everything ends."""

import dataclasses
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ids_appliance.config import Enforce, Policy
from ids_appliance.errors import IdsError
from ids_appliance.policy.entries import KnownHosts
from ids_appliance.policy.kept import restore, snapshot
from ids_appliance.policy.protect import Place
from ids_appliance.policy.subjects import identity
from ids_appliance.types import Decision, Response, Subject
from tests.examples import examples
from tests.policy.ledgers import FOUND, HOSTS, World, event, finding, flood, ip, lan, mac, wan

DEVICES = (1, 5, 6, 9, 66, 254)
OUTSIDE = ("198.51.100.7", "198.51.100.53", "198.51.100.130", "192.0.2.5", "127.0.0.1")
ADDRESSES = ("192.0.2.1", "192.0.2.5", "192.0.2.9", "192.0.2.10", "192.0.2.77", "198.51.100.53")

senders = st.one_of(
    st.builds(lan, st.sampled_from([5, 66])),
    st.builds(lan, st.sampled_from(DEVICES), ifindex=st.sampled_from([2, 2, 2, 3])),
    st.builds(wan, st.sampled_from(OUTSIDE)),
    st.builds(flood, st.sampled_from(ADDRESSES), st.sampled_from([80, 443])),
    st.binary(min_size=28, max_size=28),
)
texts = st.one_of(
    st.sampled_from([*OUTSIDE, *ADDRESSES, "192.0.2.5:80", "198.51.100.0/24", "", "nobody"]),
    st.builds(
        lambda n, port: f"02:00:00:00:00:{n:02x}{port}",
        st.sampled_from(DEVICES),
        st.sampled_from(["", "@lan0", "@lan1", "@br0"]),
    ),
)
rules = st.lists(st.sampled_from(["port_scan", "dos", "sample"]), max_size=2)


class LedgerMachine(RuleBasedStateMachine):
    """Everything that may happen to a ledger; `kernel` is what an enforcer would hold."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel: dict[Subject, Decision] = {}
        self.highest = 0
        self.remaining: dict[int, float] = {}

    @initialize(
        enabled=st.sampled_from([True, True, False]),
        per_minute=st.sampled_from([1, 5, 1000]),
        most=st.sampled_from([16, 1000]),
        ceilings=st.sampled_from([{}, {"02:00:00:00:00:05": "rate_limit"}]),
    )
    def begin(self, enabled: bool, per_minute: int, most: int, ceilings: Any) -> None:
        policy = Policy(breaker_per_minute=per_minute, max_decisions=most, breaker_lan_share=0.9)
        self.world = World(policy=policy, enforce=Enforce(enabled=enabled, ceilings=ceilings))

    def take(self, decisions: Any) -> None:
        """Do what the runtime does with decisions: apply, or release."""
        for decision in decisions:
            key = identity(decision.subject)
            if decision.response is Response.OBSERVE:
                self.kernel.pop(key, None)
            else:
                assert 0 < decision.duration_s <= 30 * 86_400
                self.kernel[key] = decision

    def fresh(self, decisions: Any) -> Any:
        """Check that numbers strictly increase; for what is decided now."""
        for decision in decisions:
            assert decision.number > self.highest
            self.highest = decision.number
        return decisions

    @rule(
        sender=senders,
        named=st.just(["port_scan"]) | rules,
        address=st.sampled_from(["", *ADDRESSES]),
        score=st.floats(0, 50),
        standing=st.integers(0, 7),
        malicious=st.sampled_from([True, True, False]),
    )
    def evidence(self, **given: Any) -> None:
        address = ip(given["address"]) if given["address"] else b""
        made = finding(
            given["sender"],
            *given["named"],
            address=address,
            score=given["score"],
            standing=given["standing"],
            malicious=given["malicious"],
        )
        self.take(self.fresh(self.world.ledger.decide([made], [])))

    @rule(first=st.integers(1, 200), score=st.floats(0, 50))
    def crowd(self, first: int, score: float) -> None:
        """More subjects than the smaller table holds."""
        crowd = [wan(f"203.0.113.{n}") for n in range(first, first + 20)]
        made = [finding(sender, "port_scan", score=score + n) for n, sender in enumerate(crowd)]
        self.take(self.fresh(self.world.ledger.decide(made, [])))

    @rule(sender=st.none() | senders, decisive=st.booleans())
    def trigger(self, sender: bytes | None, decisive: bool) -> None:
        made = event(sender, "arp_spoof", decisive=decisive)
        self.take(self.fresh(self.world.ledger.decide([], [made])))

    @rule(seconds=st.sampled_from([0.001, 11.0, 61.0, 601.0, 3600.0, 2e6]))
    def time_passes(self, seconds: float) -> None:
        resumes = self.world.ledger.paused_until_ns is not None
        changed = self.world.later(seconds)
        self.take(changed if resumes else self.fresh(changed))
        self.highest = max([self.highest, *(d.number for d in changed)])

    @rule(text=texts, for_s=st.sampled_from([-1.0, 5.0, 3600.0]))
    def quarantine(self, text: str, for_s: float) -> None:
        try:
            self.take(self.fresh(self.world.ledger.quarantine(text, for_s).apply))
        except IdsError as error:
            assert "\n" not in str(error)

    @rule(text=texts)
    def release(self, text: str) -> None:
        try:
            self.take(self.fresh(self.world.ledger.release(text).ended))
        except IdsError as error:
            assert "\n" not in str(error)

    @rule(text=st.sampled_from(["192.0.2.5", OUTSIDE[0]]) | texts, add=st.booleans())
    def allow(self, text: str, add: bool) -> None:
        ledger = self.world.ledger
        try:
            effect = ledger.allow_add(text, comment="x") if add else ledger.allow_remove(text)
            self.take(self.fresh(effect.ended))
        except IdsError as error:
            assert "\n" not in str(error)

    @rule(text=texts)
    def why(self, text: str) -> None:
        try:
            assert self.world.ledger.why(text).summary
        except IdsError as error:
            assert "\n" not in str(error)

    @rule(on=st.booleans())
    def enforce(self, on: bool) -> None:
        self.take(self.fresh(self.world.ledger.enforce(on).ended))

    @rule(for_s=st.sampled_from([0.0, 30.0, 7000.0]))
    def pause(self, for_s: float) -> None:
        effect = self.world.ledger.pause(for_s)
        for subject in effect.lifted:
            self.kernel.pop(identity(subject), None)
        self.take(effect.apply)

    @rule(
        router=st.sampled_from([1, 66]),
        session=st.sampled_from([None, 5, 6]),
        admin=st.sampled_from([9, 66]),
    )
    def surroundings_change(self, router: int, session: int | None, admin: int) -> None:
        found = dataclasses.replace(
            FOUND,
            routers=(Place(ip("192.0.2.1"), "lan0", mac(router)),),
            sessions=() if session is None else (Place(ip("192.0.2.12"), "lan0", mac(session)),),
        )
        hosts = KnownHosts({**HOSTS.hosts, ip("192.0.2.9"): ("lan0", mac(admin))})
        self.take(self.fresh(self.world.ledger.surround(found, hosts)))

    @rule(away_s=st.sampled_from([0.0, 100.0, 900.0, 1e6]))
    def restart(self, away_s: float) -> None:
        old = self.world.ledger
        before = {row.decision.number: row for row in old.decisions()}
        kept = snapshot(old)
        self.world.now += 10**12  # another clock altogether
        self.world.ledger = self.world.another()
        restored = restore(self.world.ledger, kept, elapsed_s=away_s)
        for row in self.world.ledger.decisions():
            assert row.decision == before[row.decision.number].decision
            left = before[row.decision.number].remaining_s - away_s
            assert row.remaining_s <= max(0.0, left) + 1e-6
        if away_s == 0:
            assert len(self.world.ledger.decisions()) == len(before)
        self.kernel.clear()
        self.take(restored.decisions)

    # What always holds -----------------------------------------------------------------------

    @invariant()
    def nobody_who_is_let_off_is_decided_about(self) -> None:
        if not hasattr(self, "world"):
            return
        guard = self.world.ledger.guard
        for row in self.world.ledger.decisions():
            assert guard.refuses(row.decision.subject, row.decision.address) is None
        for subject in self.kernel:  # the router by its pin, and ourselves
            assert (subject.interface, subject.value) not in {("lan0", mac(1)), ("lan0", mac(254))}

    @invariant()
    def everything_has_an_end_and_stands_once(self) -> None:
        if not hasattr(self, "world"):
            return
        rows = self.world.ledger.decisions()
        assert len({identity(row.decision.subject) for row in rows}) == len(rows)
        assert len(rows) <= self.world.policy.max_decisions
        assert len({row.decision.number for row in rows}) == len(rows)
        for row in rows:
            assert 0 <= row.remaining_s <= 30 * 86_400
            number = row.decision.number
            assert row.remaining_s <= self.remaining.get(number, float("inf")) + 1e-6
            self.remaining[number] = row.remaining_s

    @invariant()
    def the_kernel_holds_what_the_ledger_says(self) -> None:
        if not hasattr(self, "world"):
            return
        ledger = self.world.ledger
        meant = {identity(d.subject): d.response for d in ledger.in_force(self.world.now)}
        for subject, response in meant.items():
            assert self.kernel[subject].response is response
        given_way = {identity(held.subject) for held in ledger._evicted}
        expired = {identity(h.subject) for h in ledger.standing if h.ends_ns <= self.world.now}
        assert set(self.kernel) <= set(meant) | given_way | expired

    @invariant()
    def no_device_above_its_ceiling(self) -> None:
        if hasattr(self, "world") and self.world.enforce.ceilings:
            for subject, decision in self.kernel.items():
                if subject.value == mac(5):
                    assert decision.response <= Response.RATE_LIMIT


LedgerMachine.TestCase.settings = settings(examples(100), stateful_step_count=50)
TestLedger = LedgerMachine.TestCase
