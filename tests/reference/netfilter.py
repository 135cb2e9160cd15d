"""Messages of a netfilter queue as the kernel writes them, and verdicts as it reads them.

linux/netfilter/nfnetlink_queue.h and netlink(7); written apart from what it tests.
"""

import struct


def attribute(kind: int, value: bytes) -> bytes:
    """A netlink attribute, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def packet(ident: int, *, version: int = 4, ttl: int = 63, length: int = 40) -> bytes:
    """An IP packet with nothing in it."""
    if version == 6:
        return struct.pack("!IHBB", 6 << 28, length - 40, 59, ttl) + bytes(32) + bytes(length - 40)
    head = struct.pack("!BBHHHBBH", 0x45, 0, length, ident, 0, ttl, 255, 0) + bytes(8)
    return head + bytes(length - 20)


def message(
    queue: int,
    payload: bytes,
    *,
    header: bool = True,
    extra: bytes = b"",
    **given: int | bytes | tuple[int, int],
) -> bytes:
    """NFQNL_MSG_PACKET. given: id, indev, outdev, mark, hw (6 bytes), at (seconds, microseconds);
    what is not given is not in it, but an id, which is that of the packet."""
    ident = given.get("id", int.from_bytes(payload[4:6], "big"))
    parts = [attribute(1, struct.pack(">IHB", ident, 0x0800, 2))] if header else []
    kinds = {"mark": 3, "indev": 5, "outdev": 6}
    parts += [
        attribute(kind, struct.pack(">I", given[name]))
        for name, kind in kinds.items()
        if name in given
    ]
    if "hw" in given:
        parts.append(attribute(9, struct.pack(">HH", 6, 0) + given["hw"] + b"\0\0"))
    if "at" in given:
        parts.append(attribute(4, struct.pack(">QQ", *given["at"])))
    body = struct.pack(">BBH", 2, 0, queue) + b"".join(parts) + extra + attribute(10, payload)
    return struct.pack("=IHHII", 16 + len(body), 0x300, 0, 0, 0) + body


def model(data: bytes, queue: int) -> list[tuple[str, int, int, int | None]]:
    """Return (batch or one, id, verdict, mark) of the messages that were sent."""
    found = []
    while data:
        length, kind, flags, _, _ = struct.unpack_from("=IHHII", data)
        family, version, number = struct.unpack_from(">BBH", data, 16)
        assert (family, version, number, flags) == (0, 0, queue, 1)
        verdict = ident = mark = None
        at = 20
        while at < length:
            size, which = struct.unpack_from("=HH", data, at)
            value = data[at + 4 : at + size]
            if which == 2:
                verdict, ident = struct.unpack(">II", value)
            else:
                assert which == 3
                (mark,) = struct.unpack(">I", value)
            at += size + -size % 4
        assert at == length and verdict is not None
        found.append(({0x301: "one", 0x303: "batch"}[kind], ident, verdict, mark))
        data = data[length:]
    return found
