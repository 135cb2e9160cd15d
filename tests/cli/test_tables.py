"""Tables stay within a terminal, and a name that was cut says so."""

import numpy as np
import pytest

from ids_appliance.cli.tables import sender_table
from ids_appliance.telemetry.senders import OTHERS, Totals
from ids_appliance.types import SENDER


def totals(family: int, address: bytes) -> Totals:
    record = np.zeros(1, SENDER)
    record[0] = (3, 0, family, list(b"\2\0\0\0\0\1"), list(address.ljust(16, b"\0")))
    return Totals(record.tobytes(), 10**9, 10**9, 10**9, 10**12, 1e9)


@pytest.mark.parametrize("family", [4, 6])
def test_lines_are_at_most_100_wide_and_align(family: int) -> None:
    rows = [totals(family, b"\x20\x01" + b"\xff" * 14), Totals(OTHERS)]
    lines = sender_table(rows, total=5).splitlines()
    assert max(map(len, lines)) <= 100
    assert len({len(line) for line in lines[:3]}) == 1
    assert ("…" in lines[1]) == (family == 6)
    assert lines[-1] == "... and 3 more senders"


def test_a_table_of_nobody_has_its_heading() -> None:
    assert sender_table([], total=0).split()[:2] == ["sender", "packets"]
