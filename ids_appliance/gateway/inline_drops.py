"""Packets that shall go no further in, who of them is spared and what is told of the others out.

Batches at a time: a Python object is made only of a packet that gets an event of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance._evidence import canonical_senders
from ids_appliance.capture.inline import Held, InlineSource
from ids_appliance.gateway.inline_log import DropLog, Dropped, length_of
from ids_appliance.gateway.inline_model import PacketModel
from ids_appliance.policy.subjects import subject_of
from ids_appliance.types import SENDER, Records, Side

Mask = npt.NDArray[np.bool_]

MAX_NAMED: Final = 4_096
"""Senders that are remembered as spared or not."""
_ETHERNET: Final = 14


@dataclass(frozen=True, slots=True)
class Around:
    """What the verdict step asks of the rest of the gateway."""

    enforcing: Callable[[], bool]
    """Whether anything may be dropped now."""
    spared: Callable[[bytes, bytes], bool]
    """Whether a canonical sender with an address is protected or allowed."""
    name: Callable[[int], str]
    """Interface index to name."""
    clock_ns: Callable[[], int]
    """Monotonic."""
    wall_ns: Callable[[], int]
    """As the kernel's timestamps."""


@dataclass(frozen=True, slots=True)
class Doomed:
    """Held packets that shall be dropped, with what there is to say of each."""

    numbers: list[int]
    reasons: list[str]
    probabilities: list[float]
    """NaN where nobody has judged."""
    senders: Records
    """(n,) SENDER."""
    octets: npt.NDArray[np.int64]
    """(n,) length of each IP packet."""

    def of(self, which: npt.NDArray[np.intp]) -> "Doomed":
        """Return those at these places."""
        places = which.tolist()
        return Doomed(
            [self.numbers[i] for i in places],
            [self.reasons[i] for i in places],
            [self.probabilities[i] for i in places],
            self.senders[which],
            self.octets[which],
        )


class Drops:
    """model: says how members voted; None: nobody."""

    def __init__(
        self, source: InlineSource, around: Around, *, log: DropLog, model: PacketModel | None
    ) -> None:
        self._source = source
        self._around = around
        self._log = log
        self._model = model
        self._known: dict[bytes, bool] = {}

    def forget(self) -> None:
        """Ask anew who is protected or allowed."""
        self._known.clear()

    def spared(self, senders: Records) -> Mask:
        """Return which of (n,) SENDER nothing is ever dropped of."""
        raw, size, known = senders.tobytes(), SENDER.itemsize, self._known
        found = np.zeros(len(senders), np.bool_)
        for i in range(len(senders)):
            said = known.get(raw[i * size : (i + 1) * size])
            if said is None:
                said = self._ask(senders[i : i + 1])
            if said:
                found[i] = True
        return found

    def tell(self, doomed: Doomed, *, acted: bool) -> None:
        """Report held packets: each by an event as long as there is room for it, the others as
        a sum. acted: False where it is only noted (observe)."""
        room = self._log.left()
        for number, reason, probability in zip(
            doomed.numbers[:room],
            doomed.reasons[:room],
            doomed.probabilities[:room],
            strict=True,
        ):
            one = self._source.held.get(number)
            if one is not None:
                self._log.put(self._dropped(one, reason, probability), acted=acted)
        if len(doomed.numbers) > room:
            octets = int(doomed.octets[room:].sum())
            self._log.add_up(doomed.reasons[room:], octets, acted=acted)

    def _ask(self, sender: Records) -> bool:
        if len(self._known) >= MAX_NAMED:
            self._known.clear()
        octets = 4 if sender["family"][0] == 4 else 16
        address = sender["address"][0].tobytes()[:octets]
        said = self._around.spared(canonical_senders(sender).tobytes(), address)
        self._known[sender.tobytes()] = said
        return said

    def _dropped(self, one: Held, reason: str, probability: float) -> Dropped:
        return Dropped(
            one.payload,
            reason,
            (one.packet.get_hw() or b"")[:6] if one.incoming else b"",
            self._around.name(one.packet.indev),
            None if np.isnan(probability) else probability,
            self._model.votes(one.payload) if self._model is not None else None,
        )


def of_frames(frames: Records) -> npt.NDArray[np.int64]:
    """Return the length of each frame's IP packet."""
    octets: npt.NDArray[np.int64] = frames["wirelen"].astype(np.int64)
    octets -= _ETHERNET * (frames["linktype"] == 1)
    return octets


def of_held(held: Sequence[Held]) -> tuple[Records, npt.NDArray[np.int64]]:
    """Return SENDER records and lengths of packets that no judged batch shows."""
    senders = np.zeros(len(held), SENDER)
    for record, one in zip(senders, held, strict=True):
        four = one.payload[0] >> 4 == 4
        address = one.payload[12:16] if four else one.payload[8:24]
        record["family"] = 4 if four else 6
        record["address"][: len(address)] = np.frombuffer(address, np.uint8)
        record["ifindex"] = one.port
        record["side"] = Side.LAN if one.incoming else Side.WAN
        if one.incoming:
            record["mac"] = np.frombuffer((one.packet.get_hw() or bytes(8))[:6], np.uint8)
    return senders, np.array([length_of(one.payload) for one in held], np.int64)


def spared_by(
    refuses: Callable[[Any, bytes], str | None], name: Callable[[int], str]
) -> Callable[[bytes, bytes], bool]:
    """Return a test of canonical senders by the guard that decisions pass."""

    def spared(sender: bytes, address: bytes) -> bool:
        subject = subject_of(sender, name)
        return subject is not None and refuses(subject, address) is not None

    return spared
