"""The allow list: people's entries in, whether a sender is one of them out.

An allowed sender opens windows and is judged like everybody, but nothing is decided about it.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ids_appliance.errors import SubjectError
from ids_appliance.policy.entries import Element, Entry, Match, View, best, elements
from ids_appliance.policy.protect import Protection
from ids_appliance.policy.subjects import Named, parse
from ids_appliance.types import Subject

MAX_ENTRIES: Final = 1024
MAX_COMMENT: Final = 200
WIDEST: Final = {4: 8, 6: 16}
"""IP version -> shortest prefix that may be allowed: nobody means half of the Internet."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """One entry, as somebody made it."""

    text: str
    """As written, less the interface: what `remove` takes."""
    interface: str = ""
    mac: bytes = b""
    """MAC that an address on the protected side belonged to when it was added."""
    comment: str = ""
    since_ns: int = 0
    """Wall clock."""

    @property
    def named(self) -> Named:
        """Return what the text means. Raises SubjectError."""
        return parse(self.text, self.interface)

    @property
    def entry(self) -> Entry:
        """Return it as something to match by."""
        named = self.named
        why = f"allowed: {self}"
        return Entry(why, named.network, named.mac or self.mac, self.interface)

    def __str__(self) -> str:
        place = f"@{self.interface}" if self.interface else ""
        return f"{self.text}{place}" + (f" ({self.comment})" if self.comment else "")


class AllowList:
    """Entries by (text, interface), at most MAX_ENTRIES; matching as for the protected."""

    def __init__(self, entries: Iterable[Allowed] = ()) -> None:
        self._rows: dict[tuple[str, str], tuple[Allowed, Entry]] = {}
        for entry in entries:
            self.put(entry)

    def add(
        self, text: str, interface: str = "", *, comment: str, now_ns: int, guard: Protection
    ) -> Allowed:
        """Add an entry or change its comment; return it.

        An address of the protected side is bound to the interface and the MAC that it is known at.
        Raises SubjectError.
        """
        named = parse(text, interface)
        if named.port:
            raise SubjectError(f"{text!r}: a flood is not allowed or denied, write an address")
        network = named.network
        if network is not None and network.prefixlen < WIDEST[network.version]:
            raise SubjectError(
                f"{text!r} would allow nearly everybody: write a network of at least "
                f"/{WIDEST[network.version]}"
            )
        place, mac = named.interface, b""
        known = guard.view.hosts.of_address(named.address) if named.address else None
        if known and (not place or guard.view.layout.same(known[0], place)):
            place, mac = place or known[0], known[1]
        elif named.address and not place:
            place = _on_link(named.address, guard)
        body = _canonical(named)
        made = Allowed(body, place, mac, _printable(comment), now_ns)
        self.put(made)
        return made

    def put(self, entry: Allowed) -> None:
        """Take an entry as it is. Raises SubjectError: bad text, or the list is full."""
        key = (entry.text, entry.interface)
        if key not in self._rows and len(self._rows) >= MAX_ENTRIES:
            raise SubjectError(f"the allow list is full ({MAX_ENTRIES} entries): remove some")
        self._rows[key] = (entry, entry.entry)

    def remove(self, text: str, interface: str = "") -> list[Allowed]:
        """Remove the entries with this text, of all interfaces unless one is given.

        Raises SubjectError where there is none.
        """
        named = parse(text, interface)
        body = _canonical(named)
        keys = [k for k in self._rows if k[0] == body and named.interface in ("", k[1])]
        if not keys:
            raise SubjectError(f"{text!r} is not on the allow list: see `allow list`")
        return [self._rows.pop(key)[0] for key in keys]

    def entries(self) -> list[Allowed]:
        """Return all entries, the oldest first."""
        return [entry for entry, _ in self._rows.values()]

    def allows(self, subject: Subject, address: bytes, view: View) -> str | None:
        """Return the entry that lets a subject off, as text; None where none does."""
        return self._matched(subject, address, view, Match.YES)

    def doubts(self, subject: Subject, address: bytes, view: View) -> str | None:
        """Return the entry that a subject claims to be without anybody knowing better."""
        return self._matched(subject, address, view, Match.DOUBTED)

    def elements(self, view: View) -> tuple[Element, ...]:
        """Return who is allowed, for the kernel's own sets: so that an aggregate (a /24 where a
        set is full) does not take somebody allowed with it."""
        return elements((entry for _, entry in self._rows.values()), view)

    def _matched(self, subject: Subject, address: bytes, view: View, how: Match) -> str | None:
        found = best((entry for _, entry in self._rows.values()), subject, address, view)
        return found[1].why if found is not None and found[0] is how else None


def _canonical(named: Named) -> str:
    if named.mac:
        return named.mac.hex(":")
    return str(ipaddress.ip_address(named.address)) if named.address else str(named.network)


def _printable(comment: str) -> str:
    return "".join(c for c in comment[:MAX_COMMENT] if c.isprintable())


def _on_link(address: bytes, guard: Protection) -> str:
    """Return the interface of the protected side whose network an address lies in, or ""."""
    for interface, own, prefix in guard.found.networks:
        network = ipaddress.ip_network((own, prefix), strict=False)
        if ipaddress.ip_address(address) in network:
            return interface
    return ""
