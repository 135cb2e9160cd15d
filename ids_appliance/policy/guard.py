"""A subject in, whether anything may be done about it out; and what people write, resolved.

Protection and the allow list answer together here, so that every way to a decision (evidence, a
rule, by hand, the state file) passes the same gate.
"""

from dataclasses import dataclass, field

from ids_appliance.config import Enforce
from ids_appliance.errors import ConfigError, SubjectError
from ids_appliance.policy.allow import AllowList
from ids_appliance.policy.entries import Element, Entry, Match, match
from ids_appliance.policy.neighbours import Neighbours, nobody, whose
from ids_appliance.policy.protect import Protection
from ids_appliance.policy.subjects import Named, of_address, parse
from ids_appliance.types import Kind, Response, Subject


@dataclass(frozen=True, slots=True)
class Guard:
    """Who is let off: protected by what they are, or allowed by somebody."""

    protection: Protection
    allow: AllowList = field(default_factory=AllowList)
    neighbours: Neighbours = nobody
    """The kernel's table, asked where an order names an address that was not seen yet."""

    def refuses(self, subject: Subject, address: bytes = b"") -> str | None:
        """Return why nothing is done about a subject; None if something may be."""
        reason = self.protection.refuses(subject, address)
        if reason is not None:
            return f"protected: {reason}"
        return self.allow.allows(subject, address, self.protection.view)

    def doubts(self, subject: Subject, address: bytes = b"") -> str | None:
        """Return whose address a subject claims without proof; it is limited at most."""
        doubted = self.protection.doubts(subject, address)
        if doubted is None:
            doubted = self.allow.doubts(subject, address, self.protection.view)
        return doubted and f"claims an address that may be somebody's who is let off ({doubted})"

    def elements(self) -> tuple[Element, ...]:
        """Return everybody who is let off, for the kernel's own sets."""
        allowed = self.allow.elements(self.protection.view)
        return tuple(dict.fromkeys((*self.protection.elements(), *allowed)))

    def locate(self, named: Named, text: str) -> Subject:
        """Return the subject that an order is about. Raises SubjectError that says what to write.

        On the protected side it is the MAC at its port, whatever was written: of an address by
        what was seen, else by the kernel's neighbour table (`unseen`). Beyond us it is the address.
        Somebody who writes an address vouches for it: the subject counts as proven.
        """
        view = self.protection.view
        if named.port:
            raise SubjectError(f"{text!r} is a victim: write the sender, an ADDRESS or a MAC")
        if named.mac:
            place = named.interface or view.hosts.of_mac(named.mac)
            captured = sorted(view.layout.captured)
            if not place and len(captured) > 1:
                raise SubjectError(
                    f"{text!r} was not seen: write MAC@INTERFACE ({', '.join(captured)})"
                )
            return Subject(Kind.MAC, named.mac, interface=self._port(place or "".join(captured)))
        assert named.network is not None
        if named.network.version == 6 and named.network.prefixlen == 64:
            return of_address(named.network.network_address.packed)
        if not named.address:
            raise SubjectError(f"{text!r} is a network: write one ADDRESS, or a MAC")
        if named.address in self.protection.found.addresses:
            return of_address(named.address)
        known = view.hosts.of_address(named.address)
        if known is not None:
            return Subject(Kind.MAC, known[1], interface=known[0])
        if named.interface or view.layout.on_link(named.address):
            return whose(named, text, self.neighbours(), view.layout)
        return of_address(named.address)

    def unseen(self, named: Named, subject: Subject) -> bool:
        """Say whether only the kernel's neighbour table knows that an address is a subject's."""
        known = self.protection.view.hosts.of_address(named.address)
        return bool(named.address) and subject.kind is Kind.MAC and known is None

    def _port(self, interface: str) -> str:
        """Return the captured port that an interface stands for. Raises SubjectError."""
        layout = self.protection.view.layout
        ports = layout.ports(interface)
        if interface and layout.captured and not ports:
            raise SubjectError(
                f"{interface!r} is not captured: write one of {', '.join(sorted(layout.captured))}"
            )
        if len(ports) > 1:
            raise SubjectError(f"{interface!r} has several ports: write one of {', '.join(ports)}")
        return ports[0] if ports else interface


class Ceilings:
    """The most that may be done to somebody: a global ceiling, and one per device.

    A device's ceiling binds people's orders too (a door lock is never cut off); the global one
    does not. An address on the protected side names the device that is known to have it; where
    nobody is known, whoever claims it has the ceiling.
    """

    def __init__(self, settings: Enforce) -> None:
        self._all = Response[settings.ceiling.upper()]
        self._rows: list[tuple[Entry, Response]] = []
        for text, ceiling in settings.ceilings.items():
            try:
                named = parse(text)
            except SubjectError as error:
                raise ConfigError(f"enforce.ceilings: {error}") from error
            entry = Entry(f"{text} = {ceiling}", named.network, named.mac, named.interface)
            self._rows.append((entry, Response[ceiling.upper()]))

    def of(self, subject: Subject, address: bytes, guard: Guard) -> tuple[Response, str]:
        """Return a subject's own ceiling and the setting that says so; (QUARANTINE, "") if none."""
        found = (Response.QUARANTINE, "")
        for entry, ceiling in self._rows:
            how = match(entry, subject, address, guard.protection.view)
            if how is not Match.NO and ceiling < found[0]:
                found = (ceiling, f"ceiling of {entry.why}")
        return found

    @property
    def everybody(self) -> Response:
        """Return the global ceiling."""
        return self._all
