"""Bytes of a JSON connection in: rows inside their domains or ValueError, in any pieces."""

import json
from collections.abc import Iterator

from ids_appliance.classify.jsonlink import MAX_LINE, Lines, parse_rows
from ids_appliance.schema import FEATURE_NAMES, FEATURES

DOMAINS = [feature.domain for feature in FEATURES]
ROW = dict.fromkeys(FEATURE_NAMES, 1)


def fuzz(data: bytes) -> None:
    """First byte: how the rest is split."""
    if not data:
        return
    step, stream = data[0] + 1, data[1:]
    whole = lines(stream, len(stream) or 1)
    if lines(stream, step) != whole:
        raise AssertionError(f"pieces of {step}: {lines(stream, step)}\nwhole: {whole}")
    try:
        seqs, rows = parse_rows(whole or [])
    except ValueError:
        return
    assert rows.tolist() == [] or rows.shape == (len(seqs), len(DOMAINS))
    for row, line in zip(rows.tolist(), whole or [], strict=True):
        assert all(value < domain for value, domain in zip(row, DOMAINS, strict=True))
        assert row == [json.loads(line)[name] for name in FEATURE_NAMES]


def lines(stream: bytes, step: int) -> list[bytes] | None:
    """Return the lines of a stream, None where one is too long."""
    splitter = Lines()
    found: list[bytes] = []
    try:
        for at in range(0, len(stream), step):
            found += splitter.feed(stream[at : at + step])
    except ValueError:
        return None
    return found


def seeds() -> Iterator[bytes]:
    row = json.dumps({"seq": 1} | ROW).encode() + b"\n"
    yield b"\x40" + row
    yield b"\x07" + row * 2
    largest = {name: domain - 1 for name, domain in zip(ROW, DOMAINS, strict=True)}
    yield b"\xff" + json.dumps({"seq": 2**62} | largest).encode() + b"\n"
    yield b"\xff" + b'{"seq": 1, "ttl": [[[[1e400, -1, null]]]]}\n'
    yield b"\xff" + b"[" * (MAX_LINE - 1) + b"\n"
