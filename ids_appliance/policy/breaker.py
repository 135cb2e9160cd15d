"""Decisions as they are about to be made in; whether there are so many that something is wrong out.

A broken model or a compromised node accuses many at once. Then everything holds at observe until a
person resets it or a cool-down has passed; what stands keeps its time.
"""

from collections import deque
from typing import Final

from ids_appliance.types import Kind, Subject

MINUTE_NS: Final = 60 * 10**9
MIN_DEVICES: Final = 3
"""Decisions about one or two devices never count as a share: in a home of five devices two infected
ones are 40 %, and an ordinary bad day. Three at once in a network of 15 or fewer are not."""
MAX_COOL_DOWN_S: Final = 86_400.0


class Breaker:
    """Holds after more than `per_minute` decisions in any minute, or when decisions stand about
    `lan_share` of the known LAN devices, but never fewer than MIN_DEVICES.

    Each trip doubles the next cool-down, up to a day, until somebody resets it: a model that is
    still broken afterwards gets ever fewer chances.
    """

    def __init__(self, per_minute: int, lan_share: float, *, cool_down_s: float) -> None:
        self._per_minute = per_minute
        self._share = lan_share
        self._cool_down_s = cool_down_s
        self._recent: deque[int] = deque(maxlen=per_minute + 1)
        self._devices: set[Subject] = set()
        self._until_ns: int | None = None
        self.trips = 0
        self.why = ""

    @property
    def holds(self) -> bool:
        """Say whether everything is held."""
        return self._until_ns is not None

    def admits(self, subject: Subject, now_ns: int, *, known_devices: int) -> bool:
        """Say whether a decision may be enforced, and count it; the one too many is held already.

        known_devices: on the protected side; fewer than are decided about count as just those.
        """
        if self.holds:
            return False
        while self._recent and self._recent[0] <= now_ns - MINUTE_NS:
            self._recent.popleft()
        devices = self._devices | ({subject} if subject.kind is Kind.MAC else set())
        known = max(known_devices, len(devices))
        if len(self._recent) >= self._per_minute:
            self._trip(f"more than {self._per_minute} decisions in a minute", now_ns)
        elif len(devices) >= MIN_DEVICES and len(devices) >= self._share * known:
            self._trip(f"decisions about {len(devices)} of {known} devices", now_ns)
        if self.holds:
            return False
        self._recent.append(now_ns)
        self._devices = devices
        return True

    def ended(self, subject: Subject) -> None:
        """Count a device no longer: nothing stands about it."""
        self._devices.discard(subject)

    def cooled(self, now_ns: int) -> bool:
        """Say whether the cool-down has passed just now; then it does not hold any more."""
        if self._until_ns is None or now_ns < self._until_ns:
            return False
        self._release()
        return True

    def reset(self) -> bool:
        """Let a person end it; return whether it held. The next cool-down is the first again."""
        held = self.holds
        self._release()
        self.trips = 0
        return held

    def remaining_s(self, now_ns: int) -> float:
        """Return the seconds until it cools down; 0 where it does not hold."""
        return max(0.0, (self._until_ns - now_ns) / 1e9) if self._until_ns is not None else 0.0

    def restore(self, remaining_s: float, trips: int, *, now_ns: int) -> None:
        """Take up where an earlier run was: a restart does not reset it."""
        self.trips = trips
        if remaining_s > 0:
            self.why = "since before the restart"
            self._until_ns = now_ns + int(min(remaining_s, MAX_COOL_DOWN_S) * 1e9)

    def _trip(self, why: str, now_ns: int) -> None:
        pause_s = min(self._cool_down_s * 2.0 ** min(self.trips, 32), MAX_COOL_DOWN_S)
        self.trips += 1
        self.why = why
        self._until_ns = now_ns + int(pause_s * 1e9)

    def _release(self) -> None:
        # What stands from before was looked at, or has outlived the cool-down: it is not counted
        # towards the next trip.
        self._until_ns = None
        self._recent.clear()
        self._devices.clear()
        self.why = ""
