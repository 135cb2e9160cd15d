"""A classic pcap, plain or gzip, in, its frames out: read without any of the project's code."""

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

MAGICS = {0xA1B2C3D4: "<", 0xA1B23C4D: "<", 0xD4C3B2A1: ">", 0x4D3CB2A1: ">"}


def frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (link type, frame) up to the first record that is cut off; ValueError: not a pcap."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        head = file.read(24)
        order = MAGICS.get(int.from_bytes(head[:4], "little")) if len(head) == 24 else None
        if order is None:
            raise ValueError(f"{path} is not a classic pcap")
        linktype = struct.unpack(order + "I", head[20:24])[0] & 0xFFFF
        while len(record := file.read(16)) == 16:
            captured = struct.unpack(order + "I", record[8:12])[0]
            frame = file.read(captured)
            if len(frame) < captured:
                return
            yield linktype, frame
