"""The configuration in, Zeek's bounded mirror in the kernel out; taken down again without a trace.

Made before Zeek and the gateway start, by a unit of its own; it stands whether they run or not.
"""

import ipaddress
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ids_appliance.capture.interfaces import capture_points
from ids_appliance.capture.netlink import links
from ids_appliance.config import Config
from ids_appliance.enforce.nft import Nft, NftError
from ids_appliance.errors import EnforceError
from ids_appliance.gateway.surroundings import look
from ids_appliance.trigger.zeek_mirror import (
    LIMITED_MAC,
    Mirror,
    created,
    removed,
    ruleset,
    settled,
)
from ids_appliance.trigger.zeek_settings import Sight

NAMED: Final = Path("/run/netns")
TIMEOUT_S: Final = 30.0
NEAR: Final = "idszeek0"
NAMESPACE: Final = "ids-zeek"


@dataclass(frozen=True, slots=True)
class Names:
    """What the mirror's parts are called."""

    near: str = NEAR
    """Both ends of the veth pair, each in its own namespace."""
    namespace: str = NAMESPACE
    """Network namespace of the far end, where Zeek lives."""


def planned(config: Config, names: Names) -> Mirror:
    """Return the mirror that a configuration asks for. Raises InterfaceError, ConfigError."""
    found = look(config)
    networks = {
        str(ipaddress.ip_network((address, prefix), strict=False))
        for _, address, prefix in found.networks
        if not ipaddress.ip_address(address).is_link_local
    }
    ports = tuple(capture_points(config.interfaces))
    bridges = {upper for _, upper in found.above}
    return Mirror(
        ports=ports,
        inside=tuple(sorted({*ports, *config.interfaces, *bridges})),
        networks=tuple(sorted(networks)),
        near=names.near,
        rate_pps=config.zeek.mirror_pps,
        burst=config.zeek.mirror_burst,
    )


def up(config: Config, names: Names) -> None:
    """Make the mirror, or bring one that stands up to date; Zeek on its far end stays undisturbed.

    Raises EnforceError: a tool or a feature of the kernel is missing; InterfaceError, ConfigError.
    """
    mirror = planned(config, names)
    ends = names.near, names.namespace
    try:
        if not _stands(names):
            down(names)
            for words in created(*ends):
                _ip(words)
        for words in settled(*ends):
            _ip(words)
    except EnforceError:
        down(names)
        raise
    try:
        Nft().run(ruleset(mirror))
    except NftError as error:
        raise EnforceError(
            f"the mirror's rules are refused: {error}. It needs Linux 5.16 or later with "
            "nf_tables, nf_conntrack, nft_dup_ipv4, nft_dup_ipv6, nft_dup_netdev and nft_fib"
        ) from error


def down(names: Names) -> None:
    """Remove everything of the mirror; nothing happens where there is none."""
    Nft().run(removed())
    if any(link.name == names.near for link in links().values()):
        _ip(("link", "delete", names.near))
    if (NAMED / names.namespace).exists():
        _ip(("netns", "delete", names.namespace))


def sight(config: Config) -> Sight:
    """Return what Zeek has to know of this machine behind the mirror."""
    found = look(config)
    return Sight(
        own_macs=tuple(mac.hex(":") for mac in found.macs),
        own_addresses=tuple(str(ipaddress.ip_address(address)) for address in found.addresses),
        router_macs=tuple(mac.hex(":") for mac in found.router_macs),
        limited_mac=LIMITED_MAC,
    )


def _stands(names: Names) -> bool:
    there = any(link.name == names.near for link in links().values())
    return there and (NAMED / names.namespace).exists()


def _ip(words: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            ("ip", *words), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise EnforceError("`ip` is not installed: install iproute2") from None
    except subprocess.TimeoutExpired as error:
        raise EnforceError(f"ip {' '.join(words)} did not end in {TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        said = " ".join(done.stderr.split())
        raise EnforceError(f"ip {' '.join(words)}: {said or done.returncode}")
