"""The settings of [inline]: packets wait for their verdict before they are forwarded."""

from typing import Annotated, Literal

from msgspec import Meta

from ids_appliance.config.terms import Rows, Section


class Inline(Section, frozen=True, forbid_unknown_fields=True):
    """What this machine routes waits in a packet queue (NFQUEUE) for its verdict."""

    enabled: bool = False
    """Hold what is routed from or to the interfaces until it is judged; the rest (ARP, what is for
    the gateway itself, what is bridged) is watched as ever."""
    queue: Annotated[int, Meta(ge=0, le=65_535)] = 7447
    """Number of the kernel's queue; no other program may have it."""
    queues: Annotated[int, Meta(ge=1, le=8)] = 1
    """Further queues follow that number: the kernel spreads packets over so many of them by both
    their addresses, each is read and answered by a thread of its own, and one judges them all. More
    than one costs each packet time, and pays only with processors to spare."""
    reader: Literal["batch", "package"] = "batch"
    """Who reads the queue: our own code, as many packets a call as wait, or the package
    NetfilterQueue, packet by packet."""
    drop: Literal["decision", "suspect", "packet"] = "suspect"
    """Which packets are dropped while decisions are enforced: those of senders that are cut off;
    also those judged malicious of senders that a trigger has named; all that are judged malicious
    (as published)."""
    copy_bytes: Annotated[int, Meta(ge=128, le=4_016)] = 256
    """What is read of each packet, from its IP header on."""
    length: Annotated[int, Meta(ge=16, le=65_536)] = 1_024
    """Packets held at a time, in each queue: so many are lost at most where the gateway is
    killed."""
    fail_open: bool = True
    """A full queue lets packets pass unjudged, counted; else it drops them."""
    deadline_ms: Annotated[float, Meta(ge=1, le=10_000)] = 50.0
    """A packet without a verdict for so long: failure.on_classifier_down decides about it."""
    log_per_second: Annotated[int, Meta(ge=0, le=10_000)] = 50
    """Dropped packets with an event of their own; past that they are counted in one."""
    bypass: bool = True
    """Let TCP connections judged clean pass beside the queue until their sender is in doubt."""
    bypass_packets: Annotated[int, Meta(ge=2, le=1_000_000)] = 8
    """Judged packets, none of them malicious, after which a connection with payload both ways is
    clean."""
    bypass_s: Annotated[float, Meta(ge=1, le=86_400)] = 60.0
    """For so long; then it is judged anew."""
    bypass_flows: Rows = 16_384
    """Connections followed, and those that pass beside the queue, at a time."""
