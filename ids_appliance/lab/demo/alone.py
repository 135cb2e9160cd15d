"""A recorded act in; what the trigger alone and the forest alone would have done out.

Trigger alone: whoever a rule names is cut off; where a flood has no sender to name, its victim's
port is closed to everybody new. Forest alone: every packet is judged, and its evidence decides
without any word of a rule. Both are replays of the act's capture through the same stages.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from ids_appliance import assemble
from ids_appliance._features import HostIdentity
from ids_appliance.config import Config, Enforce, Trigger, Window
from ids_appliance.gateway.offline import offline_parts
from ids_appliance.gateway.replay import INTERFACE, Label, Replay, Replayed
from ids_appliance.policy.subjects import subject_of, subject_text
from ids_appliance.types import Kind

FOUND_SHARE: Final = 0.9
"""An attack is stopped if so many of its senders are cut off."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one way to decide does about an act."""

    stopped: bool | None
    """It cuts the attacker off; None: there is none."""
    wronged: tuple[str, ...]
    """Ordinary senders that it cuts off, and ports that it closes without need."""
    judged: int
    """Packets put to the forest."""

    def words(self) -> str:
        """Say it in a table's cell, of at most 24 columns for names as short as the lab's."""
        stopped = {None: "", True: "stops it", False: "misses it"}[self.stopped]
        harm = f"bans {len(self.wronged)} others" if self.wronged else ""
        if len(self.wronged) == 1:
            (whom,) = self.wronged
            harm = f"closes {whom}" if ":" in whom else f"bans {whom}"
        return ", ".join(filter(None, (stopped, harm))) or "leaves all alone"


@dataclass(frozen=True, slots=True)
class Alone:
    """An act, decided about in three ways."""

    trigger: Verdict
    forest: Verdict
    both: Verdict


class Judges:
    """Replays of acts on one model.

    name: who a MAC, an address or a VICTIM:PORT is. host: who the gateway was. allowed: names on
    the allow list, about whom nobody decides.
    """

    def __init__(
        self,
        model: Path,
        host: HostIdentity,
        name: Callable[[str], str],
        *,
        window_s: float,
        allowed: Sequence[str] = (),
    ) -> None:
        self._model = model
        self._host = host
        self._name_of = name
        self._allowed = allowed
        self._config = Config(
            interfaces=(INTERFACE,),
            window=Window(window_s=window_s),
            enforce=Enforce(enabled=True),
        )

    def act(self, capture: Path, label: Label, *, attacked: bool) -> Alone:
        """Decide about a recorded act. Raises CaptureError, BundleError."""
        live = self._replay(capture, label, self._config)
        always = msgspec.structs.replace(self._config, trigger=Trigger(kind="always"))
        forest = self._replay(capture, label, always)
        return Alone(
            trigger=self._verdict(live, live.named, attacked=attacked, judged=0),
            forest=self._verdict(
                forest, forest.acted(), attacked=attacked, judged=forest.counters["judged"]
            ),
            both=self._verdict(
                live, live.acted(), attacked=attacked, judged=live.counters["judged"]
            ),
        )

    def _replay(self, capture: Path, label: Label, config: Config) -> Replayed:
        with closing(assemble.local_classifier(self._model)) as classifier:
            return Replay(config, offline_parts, classifier, label=label, host=self._host).run(
                capture
            )

    def _verdict(
        self, replayed: Replayed, accused: set[bytes], *, attacked: bool, judged: int
    ) -> Verdict:
        senders = replayed.senders.values()
        floods = {flood for sent in senders for flood in sent.flooding}
        attackers = sum(sent.attacker for sent in senders)
        found = len(replayed.found(accused))
        # A flood that is held back is stopped, whatever its forged senders are called.
        stopped = bool(floods & accused) or found >= FOUND_SHARE * attackers > 0
        wronged = {self._name(who) for who in replayed.wronged(accused)}
        wronged |= {self._name(who) for who in accused - floods if _is_flood(who)}
        return Verdict(
            stopped=stopped if attacked else None,
            wronged=tuple(sorted(wronged - set(self._allowed))),
            judged=judged,
        )

    def _name(self, sender: bytes) -> str:
        subject = subject_of(sender, lambda index: "")
        return "nobody" if subject is None else self._name_of(subject_text(subject))


def _is_flood(sender: bytes) -> bool:
    subject = subject_of(sender, lambda index: "")
    return subject is not None and subject.kind is Kind.FLOOD


Labels = Callable[[Path], Label]
"""labels.json of one capture -> what labels its frames."""
