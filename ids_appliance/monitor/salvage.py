"""What a killed capture has left unfinished in, a finished file without half a frame out."""

import os
from pathlib import Path

from ids_appliance.errors import CaptureError
from ids_appliance.monitor.stream import HEAD_BYTES, Records

_PIECE = 1 << 16


def salvage(part: Path) -> Path | None:
    """Cut an unfinished file after its last whole record and give it its name; return that.

    None where it holds no record: it is removed. Raises OSError.
    """
    size = _whole(part)
    if size <= HEAD_BYTES:
        part.unlink()
        return None
    os.truncate(part, size)
    whole = part.with_suffix("")
    os.replace(part, whole)
    return whole


def _whole(part: Path) -> int:
    """Return the bytes up to the end of the last whole record; 0 where it is no capture."""
    stream = Records()
    size = HEAD_BYTES
    with part.open("rb") as file:
        while piece := file.read(_PIECE):
            try:
                records, _ = stream.feed(piece)
            except CaptureError:
                return size if stream.head else 0
            size += len(records)
    return size if stream.head else 0
