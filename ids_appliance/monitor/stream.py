"""The bytes of a classic pcap stream in, whole records out (draft-ietf-opsawg-pcap)."""

import struct
from typing import Final

from ids_appliance.errors import CaptureError

HEAD_BYTES: Final = 24
RECORD_BYTES: Final = 16
MAGICS: Final = {0xA1B2C3D4: 1_000, 0xA1B23C4D: 1}
"""Magic in our byte order -> nanoseconds of a record's second time field."""
LONGEST: Final = 262_144
"""tcpdump's greatest snapshot length."""
_LENGTH: Final = struct.Struct("=I")
_TIME: Final = struct.Struct("=II")


class Records:
    """Cuts a stream into whole records; what is not whole yet waits for the rest."""

    def __init__(self) -> None:
        self.head = b""
        """The file header once it has come: whatever the records are written to starts with it."""
        self._rest = b""

    def feed(self, data: bytes) -> tuple[bytes, list[int]]:
        """Return whole records, and where in them each ends.

        Raises CaptureError: what comes is no pcap of this machine's byte order."""
        data = self._rest + data if self._rest else data
        start = 0
        if not self.head:
            if len(data) < HEAD_BYTES:
                self._rest = data
                return b"", []
            self.head = data[:HEAD_BYTES]
            if _LENGTH.unpack_from(self.head)[0] not in MAGICS:
                raise CaptureError("what was to be a capture is no pcap: is that tcpdump's -w -?")
            start = HEAD_BYTES
        ends = []
        at, size = start, len(data)
        length_at = _LENGTH.unpack_from
        while at + RECORD_BYTES <= size:
            length = length_at(data, at + 8)[0]
            if length > LONGEST:
                raise CaptureError(f"the capture's stream is damaged: a frame of {length} bytes")
            at += RECORD_BYTES + length
            if at > size:
                break
            ends.append(at - start)
        whole = ends[-1] if ends else 0
        self._rest = data[start + whole :]
        return data[start : start + whole], ends

    def time_ns(self, records: bytes, at: int = 0) -> int:
        """Return when the record at `at` was captured, in nanoseconds since the epoch."""
        seconds, rest = _TIME.unpack_from(records, at)
        return int(seconds) * 1_000_000_000 + int(rest) * MAGICS[_LENGTH.unpack_from(self.head)[0]]
