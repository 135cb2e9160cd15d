"""The machine's CPUs in, two camps out: one CPU for gateway and forwarding, the rest for others.

Left alone, a virtual cable's other end is served by the CPU that sends: forwarding then takes the
generator's time, who sets the limit of every mode. Receive packet steering (the kernel's
Documentation/networking/scaling.rst) hands frames over to another CPU, as a machine's own would.
"""

import os
from dataclasses import dataclass
from typing import Self

from ids_appliance.errors import LabError


@dataclass(frozen=True, slots=True)
class Camps:
    """Which CPU belongs to whom."""

    gateway: int
    others: frozenset[int]

    @classmethod
    def found(cls) -> Self:
        """Return the last CPU for the gateway. Raises LabError where there is one only."""
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            raise LabError("--apart needs two CPUs: this process may use one only")
        return cls(usable[-1], frozenset(usable[:-1]))

    @property
    def prefix(self) -> tuple[str, ...]:
        """Words before the gateway's command."""
        return ("taskset", "-c", str(self.gateway))

    def steering(self, *, gateway: bool) -> str:
        """Return what steers to the gateway's CPU, or to the others' (rps_cpus)."""
        return mask({self.gateway} if gateway else self.others)


def mask(cpus: set[int] | frozenset[int]) -> str:
    """Return CPUs as the kernel reads them: hexadecimal, 32 of them between commas."""
    bits = sum(1 << cpu for cpu in cpus)
    words = [f"{bits >> at & 0xFFFFFFFF:08x}" for at in range(0, max(1, bits.bit_length()), 32)]
    return ",".join(reversed(words))
