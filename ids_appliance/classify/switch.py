"""One classifier in the place of another while requests are under way: none is lost or doubled."""

from collections.abc import Sequence

from ids_appliance.types import Answer, CellRequest, Classifier, Grid


class SwitchClassifier(Classifier):
    """A Classifier that stands for another one, which `switch` replaces (modes gateway-only and
    offloaded differ in nothing else). The one before still answers its own requests, and is closed
    once it has. Used from one thread, as every classifier.
    """

    def __init__(self, first: Classifier) -> None:
        self._current = first
        self._under_way = 0
        self._leaving: list[tuple[Classifier, int]] = []
        self._counts = {"switches": 0}

    @property
    def grid(self) -> Grid:
        """Cut points of the present classifier's model."""
        return self._current.grid

    @property
    def current(self) -> Classifier:
        """Whom new requests go to."""
        return self._current

    def switch(self, to: Classifier) -> None:
        """Ask `to` from now on; it is closed with this one."""
        self._counts["switches"] += 1
        self._leaving.append((self._current, self._under_way))
        self._current, self._under_way = to, 0
        self._part()

    def submit(self, request: CellRequest) -> bool:
        """Hand a request to the present classifier; False if its queue is full."""
        taken = self._current.submit(request)
        self._under_way += taken
        return taken

    def answers(self, timeout_s: float) -> Sequence[Answer]:
        """Return what any of them has answered, waiting at most `timeout_s` for the first."""
        found: list[Answer] = []
        for i, (classifier, under_way) in enumerate(self._leaving):
            # With one before it still to answer, the wait is that one's: it was asked first.
            answers = classifier.answers(timeout_s if i == 0 and not found else 0.0)
            self._leaving[i] = (classifier, under_way - len(answers))
            found += answers
        self._part()
        mine = self._current.answers(0.0 if found or self._leaving else timeout_s)
        self._under_way -= len(mine)
        found += mine
        return found

    def counters(self) -> dict[str, int]:
        """Totals of the present classifier, and `switches`."""
        return self._current.counters() | self._counts

    def close(self) -> None:
        """Close all of them; what is outstanding is answered UNANSWERED."""
        for classifier, _ in self._leaving:
            classifier.close()
        self._current.close()

    def _part(self) -> None:
        """Close those that owe no answer any more."""
        for classifier, under_way in self._leaving:
            if not under_way:
                classifier.close()
        self._leaving = [(c, n) for c, n in self._leaving if n]
