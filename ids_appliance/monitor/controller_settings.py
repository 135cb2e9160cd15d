"""How the embedded controller listens and what it bounds; importable without os-ken."""

from dataclasses import dataclass
from typing import Literal

from ids_appliance.monitor.learning import MAX_MACS, MAX_PER_PORT


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Where to listen, and how much to learn."""

    host: str = "127.0.0.1"
    """An address in numbers; nobody but this machine unless said otherwise."""
    port: int = 6653
    cert: str = ""
    """PEM files; all three or none."""
    key: str = ""
    ca: str = ""
    """Who has signed the switches' certificates."""
    max_macs: int = MAX_MACS
    """Per switch."""
    max_macs_per_port: int = MAX_PER_PORT
    forward: Literal["normal", "entries"] = "normal"
    """How frames find their port: as the switch itself would do it, VLANs of its ports included;
    or by an entry for every known address, which knows no VLANs."""
    discovery_s: float = 5.0
    """Between two rounds of discovery frames; 0: none."""
    bddp: bool = True
    """Discovery frames of EtherType 0x8942 beside LLDP."""

    @property
    def tls(self) -> bool:
        """Switches have to bring a certificate."""
        return bool(self.cert)
