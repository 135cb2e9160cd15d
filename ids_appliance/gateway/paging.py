"""All that stands in, one page of it out: the latest first, those that a text is found in.

Ten thousand decisions stand at most, and whoever looks at them wants twenty. The gateway's loop
tells only these; what it searches in is kept per decision, so that a search costs once.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from ids_appliance.gateway.stories import response_name
from ids_appliance.policy.ledger import Active, Ledger
from ids_appliance.policy.standing import Held
from ids_appliance.policy.subjects import address_text, told
from ids_appliance.types import Kind, Response, Subject

Label = Callable[[Subject, bytes], str]
"""A subject and its latest address to the device's name or vendor."""
SLACK: Final = 256


class Pages:
    """Pages of one ledger's standing decisions; only for the gateway's loop."""

    def __init__(self, ledger: Ledger, label: Label) -> None:
        self._ledger = ledger
        self._label = label
        self._texts: dict[int, str] = {}

    def page(self, n: int, *, offset: int = 0, find: str = "") -> tuple[list[Active], int]:
        """Return at most n decisions from the offset on, the latest first, and how many match."""
        words = find.lower().split()
        standing = list(self._ledger.standing)
        if not words:
            return self._ledger.newest(standing, n, offset=offset), len(standing)
        self._forget(standing)
        texts = map(self._text, standing)
        matching = [h for h, text in zip(standing, texts, strict=True) if _all_in(words, text)]
        return self._ledger.newest(matching, n, offset=offset), len(matching)

    def by_response(self) -> dict[str, int]:
        """Return how many decisions stand by what is done."""
        counted: Counter[tuple[Kind, Response]] = Counter()
        one: dict[tuple[Kind, Response], Subject] = {}
        for held in self._ledger.standing:
            key = (held.subject.kind, held.decision.response)
            counted[key] += 1
            one[key] = held.subject
        found: Counter[str] = Counter()
        for key, total in counted.items():
            found[response_name(one[key], key[1])] += total
        return dict(found)

    def _text(self, held: Held) -> str:
        number = held.decision.number
        text = self._texts.get(number)
        if text is None:
            decision = held.decision
            device = self._label(decision.subject, decision.address)
            parts = (told(decision.subject), address_text(decision.address), device)
            text = " ".join((*parts, decision.reason)).lower()
            self._texts[number] = text
        return text

    def _forget(self, standing: Iterable[Held]) -> None:
        """Keep no texts of decisions that are over."""
        numbers = {held.decision.number for held in standing}
        if len(self._texts) > len(numbers) + SLACK:
            self._texts = {n: text for n, text in self._texts.items() if n in numbers}


def _all_in(words: list[str], text: str) -> bool:
    return all(word in text for word in words)
