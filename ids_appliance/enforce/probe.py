"""This kernel and this libnftables in, what they can enforce out: each tried, none left behind.

Every probe is a small table that the kernel checks and does not take over (`nft -c`), so it loads
the modules that will be needed and leaves no trace.
"""

from dataclasses import dataclass, field
from typing import Final

from ids_appliance.config import Enforce
from ids_appliance.enforce.nft import Nft, NftError
from ids_appliance.errors import EnforceError

_PROBE: Final = "ids_probe"
_NEEDED: Final = {
    "ingress": (
        "netdev",
        'chain c { type filter hook ingress device "lo" priority -500; policy accept; }',
        "netdev ingress chains: enforcement on captured ports",
    ),
    "timeouts": (
        "netdev",
        "set s { type ifname . ether_addr; flags timeout; size 16; }"
        "\nchain c { iifname . ether saddr @s counter drop; }",
        "sets of interface and MAC with timeouts: every decision",
    ),
    "limits": (
        "netdev",
        "set s { type ifname . ether_addr; flags timeout; limit rate over 1/second; }"
        "\nchain c { iifname . ether saddr @s drop; }",
        "limits in a set's elements: rate limits",
    ),
    "ranges": (
        "netdev",
        "set s { type ifname . ether_addr . ipv4_addr; flags interval; }"
        "\nchain c { iifname . ether saddr . ip saddr @s accept; }",
        "ranges in sets of several fields: protected networks",
    ),
    "memory": (
        "inet",
        "set s { type ipv4_addr; flags dynamic,timeout; timeout 1m; size 16; }"
        "\nchain c { type filter hook prerouting priority -150; update @s { ip saddr }; }",
        "sets that packets fill: floods and protected senders' limits",
    ),
    "tracking": (
        "inet",
        "chain c { type filter hook prerouting priority -150; ct state new accept; }",
        "connection tracking: limits for senders who may be forged",
    ),
}
"""Name -> family, table's body, what it is and what needs it."""
_WELCOME: Final = {
    "resets": (
        "inet",
        "chain c { type filter hook prerouting priority -90; tcp dport 1 reject with tcp reset; }",
        "resets before routing: a victim keeps the half-open connections of a flood's beginning",
    ),
    "resets_bridged": (
        "netdev",
        'chain c { type filter hook ingress device "lo" priority -500; tcp dport 1 reject with tcp'
        " reset; }",
        "resets at ingress: the same on a bridge",
    ),
    "synproxy": (
        "inet",
        "chain p { type filter hook prerouting priority -300; tcp dport 1 notrack; }"
        "\nchain c { type filter hook forward priority 0; tcp dport 1 ct state untracked"
        " synproxy mss 1460; }",
        "synproxy: spoofed floods cost new senders a second instead",
    ),
}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What was tried, and what the kernel said."""

    missing: dict[str, str] = field(default_factory=dict)
    """Name -> what it is, what needs it, and why it is not there."""

    @property
    def synproxy(self) -> bool:
        """Whether the kernel can answer SYNs for a victim."""
        return "synproxy" not in self.missing

    @property
    def resets(self) -> bool:
        """Whether the kernel can end a victim's half-open connections."""
        return not self.missing.keys() & {"resets", "resets_bridged"}

    def demand(self) -> None:
        """Raise EnforceError, one line naming everything without which nothing can be enforced."""
        lacking = [line for name, line in self.missing.items() if name in _NEEDED]
        if lacking:
            raise EnforceError(
                f"this kernel lacks {'; '.join(lacking)}: load nf_tables and its modules, or set "
                'enforce.backend = "dry-run"'
            )

    def limits(self, enforce: Enforce) -> list[str]:
        """Return a line for everything that is wanted, missing, and done without."""
        return [
            f"missing {line}"
            for name, line in self.missing.items()
            if name in _WELCOME and (name != "synproxy" or enforce.synproxy)
        ]


def probe() -> Capabilities:
    """Try everything. Raises PermissionMissing, EnforceError."""
    nft = Nft()  # libnftables remembers what it only checked: a context of their own
    missing = {}
    for name, (family, body, what) in (_NEEDED | _WELCOME).items():
        try:
            nft.run(f"table {family} {_PROBE}_{name} {{\n{body}\n}}", check=True)
        except NftError as error:
            missing[name] = f"{what} ({error})"
    return Capabilities(missing)
