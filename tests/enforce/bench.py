"""What enforcement costs: `python -m tests.enforce.bench` prints latencies.

Needs root; works in a namespace of its own.
"""

import statistics
import time
from collections.abc import Callable

from ids_appliance.config import Enforce
from ids_appliance.enforce.nftables import NftEnforcer
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.types import Decision, Kind, Response, Subject
from tests.net.namespaces import Network


def mac(number: int) -> Subject:
    return Subject(Kind.MAC, b"\2\0\1" + number.to_bytes(3, "big"), "lan0")


def wan(number: int) -> Subject:
    return Subject(Kind.IPV4, bytes([10, *number.to_bytes(3, "big")]))


def decide(subject: Subject, response: Response = Response.QUARANTINE) -> Decision:
    return Decision(1, subject, response, 3600.0, "bench", score=1.0)


def timed(what: str, work: Callable[[int], object], *, turns: int = 1000) -> None:
    """Print median, 99th percentile and worst of a call."""
    took = []
    for turn in range(turns):
        start = time.perf_counter()
        work(turn)
        took.append((time.perf_counter() - start) * 1e3)
    took.sort()
    p50, p99 = statistics.median(took), took[int(turns * 0.99)]
    print(f"{what:48} p50 {p50:7.3f}  p99 {p99:7.3f}  worst {took[-1]:7.3f} ms")


def main() -> None:
    """Print everything."""
    with Network("bench", "gw") as net:
        net.ip("gw", "link add lan0 type veth peer name peer0", "link set lan0 up")
        with net.inside("gw"):
            made = NftEnforcer(
                Enforce(lan_set=16_384),
                interfaces=("lan0",),
                protected=ProtectedSets(),
                clock=time.monotonic,
            )
            made.open()
            timed("apply one MAC, new", lambda n: made.apply([decide(mac(n))]))
            timed("apply one MAC, standing", lambda n: made.apply([decide(mac(n))]))
            timed(
                "apply one MAC, other response",
                lambda n: made.apply([decide(mac(n), Response.RATE_LIMIT)]),
            )
            timed("apply one address beyond us, new", lambda n: made.apply([decide(wan(n))]))
            timed("release one", lambda n: made.release([wan(n)]))
            batch = [decide(wan(n)) for n in range(2000, 2100)]
            timed("apply a hundred at once", lambda n: made.apply(batch), turns=50)
            timed("counters, every call", lambda n: made.counters())
            timed("reconcile, nobody changed anything", lambda n: made.reconcile())
            made.apply([decide(mac(n)) for n in range(10_000)])

            def whole(turn: int) -> None:
                made.settle()
                made.reconcile()

            timed("reconcile 10,000, everything looked at", whole, turns=20)
            timed("apply one MAC, 10,000 standing", lambda n: made.apply([decide(mac(n))]))


if __name__ == "__main__":
    main()
