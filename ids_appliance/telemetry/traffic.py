"""Batches of frames in, packets and bytes by protocol out.

Counted from the frames as captured (ext/features.pyx): what the socket filter holds back while no
window is open is not among them.
"""

from ids_appliance._features import PROTOCOLS, Protocols
from ids_appliance.types import FrameBatch

__all__ = ["PROTOCOLS", "Traffic"]


class Traffic:
    """Totals since the start; for one thread."""

    def __init__(self) -> None:
        self._protocols = Protocols()

    def count(self, batch: FrameBatch) -> None:
        """Count a batch's frames; those cut too short to tell are "other"."""
        self._protocols.count(batch.data, batch.frames)

    def counters(self) -> dict[str, int]:
        """Totals by name: traffic_packets_tcp, traffic_bytes_tcp, ..."""
        return {
            f"traffic_{what}_{name}": total
            for what, totals in zip(("packets", "bytes"), self._protocols.totals(), strict=True)
            for name, total in zip(PROTOCOLS, totals, strict=True)
        }
