"""The settings of captures: what is recorded of the mirror, by whom, and how much is kept."""

from typing import Annotated, Literal

from msgspec import Meta

from ids_appliance.config.terms import Section

Engine = Literal["auto", "docker", "podman", "none"]
IMAGE = "ids-appliance-monitor"


class Capture(Section, frozen=True, forbid_unknown_fields=True):
    """What is recorded at the mirror's output port."""

    engine: Engine = "auto"
    """Who runs tcpdump: a container, or (none) this machine with the same confinement; auto: a
    container where an engine answers and has the image."""
    image: str = IMAGE
    """The container image with tcpdump in it (`monitor image` builds it)."""
    filter: str = ""
    """Which frames, as in pcap-filter(7); empty: all."""
    snap_bytes: Annotated[int, Meta(ge=0, le=262_144)] = 0
    """Bytes kept of each frame; 0: all."""
    buffer_mib: Annotated[int, Meta(ge=1, le=1_024)] = 32
    """Kernel memory that frames wait in; what finds no room there is a counted loss."""
    file_mib: Annotated[float, Meta(ge=0.01, le=65_536)] = 64.0
    """A ring's file is finished at this size,"""
    every_s: Annotated[float, Meta(ge=0, le=604_800)] = 3_600.0
    """or at this age; 0: at any."""
    files: Annotated[int, Meta(ge=1, le=100_000)] = 16
    """Finished files that a ring keeps; the oldest gives way."""
    keep_free_mib: Annotated[float, Meta(ge=0, le=1_048_576)] = 512.0
    """Room on the disk that a ring leaves to others: below it, old files give way early."""
