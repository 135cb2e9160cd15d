"""A recorded act in; what the trigger alone and the forest alone would have done out.

Trigger alone: whoever a rule names is cut off; where a flood has no sender to name, its victim's
port is closed to everybody new. Forest alone: every packet is judged, and its evidence decides
without any word of a rule. Both are replays of the act's capture through the same stages.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from ids_appliance import assemble
from ids_appliance._features import HostIdentity
from ids_appliance.config import Config, Enforce, Trigger, Window
from ids_appliance.gateway.offline import offline_parts
from ids_appliance.gateway.replay import INTERFACE, MALICIOUS, Label, Replay, Replayed
from ids_appliance.policy.subjects import subject_of, subject_text
from ids_appliance.types import Kind

FOUND_SHARE: Final = 0.9
"""An attack is stopped if so many of its senders are cut off: of forged ones there are thousands,
and a few of their first packets come before anything can be known."""


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
        """Say it in a table's cell."""
        stopped = {None: "", True: "stops it", False: "misses it"}[self.stopped]
        wronged = f"cuts off {len(self.wronged)} ordinary" if self.wronged else ""
        return ", ".join(filter(None, (stopped, wronged))) or "leaves all alone"


@dataclass(frozen=True, slots=True)
class Alone:
    """An act, decided about in three ways."""

    trigger: Verdict
    forest: Verdict
    both: Verdict


class Judges:
    """Replays of acts on one model.

    names: MAC or address (text) -> name. host: who the gateway was.
    """

    def __init__(
        self, model: Path, host: HostIdentity, names: dict[str, str], *, window_s: float
    ) -> None:
        self._model = model
        self._host = host
        self._names = names
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
        # Bystanders of a spoofer's lies send a packet or two that its rule also matches.
        attackers = sum(sent.frames[MALICIOUS] > 0 for sent in senders)
        found = len(replayed.found(accused))
        wronged = [self._name(who) for who in replayed.wronged(accused)]
        real = {flood for sent in senders for flood in sent.flooding}
        floods = [who for who in accused - real if _is_flood(who)]
        wronged += [f"everybody new to {self._name(who)}" for who in floods]
        return Verdict(
            stopped=found >= FOUND_SHARE * attackers > 0 if attacked else None,
            wronged=tuple(sorted(wronged)),
            judged=judged,
        )

    def _name(self, sender: bytes) -> str:
        subject = subject_of(sender, lambda index: "")
        if subject is None:
            return "nobody"
        text = subject_text(subject)
        return self._names.get(text, text)


def _is_flood(sender: bytes) -> bool:
    subject = subject_of(sender, lambda index: "")
    return subject is not None and subject.kind is Kind.FLOOD


Labels = Callable[[Path], Label]
"""labels.json of one capture -> what labels its frames."""
