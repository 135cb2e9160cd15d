"""What the rules need in, classic BPF programs out: the socket filter of the closed window.

CLOSED passes ARP, ICMP, DHCP, TCP with SYN, FIN or RST or without ACK, and the bare ACKs of a fixed
sixteenth of all flows; everything else stays in the kernel. OPEN passes all. Offsets are those of
the frame as the ring shows it: the kernel has taken an outer VLAN tag off received frames already,
and whatever tags are left (up to two, as in ext/packet.pxd) are stepped over. Links without a
header of their own (tunnels) begin with the IP header. Of IPv6 only the first header is looked at:
packets with extension headers pass. Of IPv4 fragments the first one is looked at, and passes if it
is TCP's, which may end before the flags (RFC 1858); later ones are refused. A load past a frame's
end refuses it (kernel: Documentation/networking/filter.rst).
"""

from collections.abc import Sequence
from typing import Final

Instruction = tuple[int, int, int, int]
"""(code, jt, jf, k) as in struct sock_filter."""
Step = tuple[str, int] | tuple[str, int, str] | str
"""A mnemonic with its number and, for a jump, the label where it leads; or a label."""

SAMPLE_MASK: Final = 0x1E
"""A flow is in the sample where these bits of the sum of its ports are 0: one in sixteen, the same
both ways. The lowest bit is left out, because Linux gives connecting sockets ports of one parity.
The screen applies the same rule (in_sample in ext/screen_tcp.pxd)."""

_HARDWARE: Final = 0xFFFFF000 + 28  # SKF_AD_OFF + SKF_AD_HATYPE: the interface's ARPHRD_*
_ALL: Final = 0x40000
_CODES: Final = {
    "ld_abs": 0x20,  # BPF_LD | BPF_W | BPF_ABS
    "ldh_abs": 0x28,
    "ldb_abs": 0x30,
    "ldh_ind": 0x48,
    "ldb_ind": 0x50,
    "ld_mem": 0x60,
    "ldx_imm": 0x01,
    "ldx_mem": 0x61,
    "st": 0x02,
    "stx": 0x03,
    "add_x": 0x0C,
    "sub_x": 0x1C,
    "and": 0x54,
    "lsh": 0x64,
    "rsh": 0x74,
    "tax": 0x07,
    "ret": 0x06,
}
_JUMPS: Final = {"ja": 0x05, "jeq": 0x15, "jset": 0x45}

# Scratch memory: what each cell holds.
_L3, _IHL, _LENGTH, _L4, _WORK = range(5)

_CLOSED: Final[tuple[Step, ...]] = (
    ("ld_abs", _HARDWARE),
    ("jeq", 1, "ethernet"),
    ("jeq", 772, "ethernet"),  # loopback
    ("ldx_imm", 0),
    ("ldb_abs", 0),
    ("rsh", 4),
    ("jeq", 4, "ipv4"),
    ("jeq", 6, "ipv6"),
    ("ret", 0),
    "ethernet",
    ("ldx_imm", 14),
    ("ldh_abs", 12),
    ("jeq", 0x8100, "tag"),
    ("jeq", 0x88A8, "tag"),
    ("ja", 0, "network"),
    "tag",
    ("ldx_imm", 18),
    ("ldh_abs", 16),
    ("jeq", 0x8100, "second tag"),
    ("jeq", 0x88A8, "second tag"),
    ("ja", 0, "network"),
    "second tag",
    ("ldx_imm", 22),
    ("ldh_abs", 20),
    "network",
    ("jeq", 0x0800, "ipv4"),
    ("jeq", 0x86DD, "ipv6"),
    ("jeq", 0x0806, "pass"),
    ("ret", 0),
    "ipv4",
    ("ldh_ind", 6),
    ("jset", 0x1FFF, "refuse"),
    ("jset", 0x2000, "first fragment"),
    ("ja", 0, "whole"),
    "first fragment",
    ("ldb_ind", 9),
    ("jeq", 6, "pass"),
    "whole",
    ("ldb_ind", 9),
    ("jeq", 1, "pass"),
    ("stx", _L3),
    ("ldb_ind", 0),
    ("and", 15),
    ("lsh", 2),
    ("st", _IHL),
    ("ldh_ind", 2),
    ("ldx_mem", _IHL),
    ("sub_x", 0),
    ("st", _LENGTH),
    ("ld_mem", _L3),
    ("add_x", 0),
    ("st", _L4),
    ("ldx_mem", _L3),
    ("ldb_ind", 9),
    ("ldx_mem", _L4),
    ("jeq", 6, "tcp"),
    ("jeq", 17, "udp"),
    ("ret", 0),
    "ipv6",
    ("ldh_ind", 4),
    ("st", _LENGTH),
    ("ldb_ind", 6),
    ("jeq", 58, "pass"),
    ("jeq", 0, "pass"),
    ("jeq", 43, "pass"),
    ("jeq", 44, "pass"),
    ("jeq", 51, "pass"),
    ("jeq", 60, "pass"),
    ("st", _WORK),
    ("stx", _L3),
    ("ldx_imm", 40),
    ("ld_mem", _L3),
    ("add_x", 0),
    ("st", _L4),
    ("ld_mem", _WORK),
    ("ldx_mem", _L4),
    ("jeq", 6, "tcp"),
    ("jeq", 17, "udp"),
    ("ret", 0),
    "tcp",
    ("ldb_ind", 13),
    ("jset", 0x07, "pass"),  # FIN, SYN, RST
    ("jset", 0x10, "acknowledges"),
    ("ja", 0, "pass"),
    "acknowledges",
    ("ldb_ind", 12),
    ("and", 0xF0),
    ("rsh", 2),
    ("st", _WORK),
    ("ldx_mem", _WORK),
    ("ld_mem", _LENGTH),
    ("sub_x", 0),
    ("jeq", 0, "bare"),
    ("ret", 0),
    "bare",
    ("ldx_mem", _L4),
    ("ldh_ind", 0),
    ("st", _WORK),
    ("ldh_ind", 2),
    ("ldx_mem", _WORK),
    ("add_x", 0),
    ("jset", SAMPLE_MASK, "refuse"),
    ("ja", 0, "pass"),
    "udp",
    ("ldh_ind", 0),
    ("jeq", 67, "pass"),
    ("jeq", 68, "pass"),
    ("ldh_ind", 2),
    ("jeq", 67, "pass"),
    ("jeq", 68, "pass"),
    "refuse",
    ("ret", 0),
    "pass",
    ("ret", _ALL),
)


def assemble(steps: Sequence[Step]) -> tuple[Instruction, ...]:
    """Turn mnemonics and labels into instructions; a jump not taken goes to the next one.

    Raises ValueError for an unknown mnemonic or label, and for a conditional jump back or over more
    than 255 instructions, which classic BPF has not.
    """
    places: dict[str, int] = {}
    at = 0
    for step in steps:
        if isinstance(step, str):
            places[step] = at
        else:
            at += 1
    program: list[Instruction] = []
    for step in steps:
        if isinstance(step, str):
            continue
        name, number = step[0], step[1]
        if len(step) == 2:
            if name not in _CODES:
                raise ValueError(f"no such instruction: {name}")
            program.append((_CODES[name], 0, 0, number))
            continue
        if name not in _JUMPS or step[2] not in places:
            raise ValueError(f"no such jump: {name} to {step[2]!r}")
        distance = places[step[2]] - len(program) - 1
        if distance < 0 or (name != "ja" and distance > 255):
            raise ValueError(f"{name} to {step[2]!r} is {distance} instructions away")
        program.append(
            (_JUMPS[name], 0, 0, distance) if name == "ja" else (_JUMPS[name], distance, 0, number)
        )
    return tuple(program)


CLOSED: Final = assemble(_CLOSED)
OPEN: Final[tuple[Instruction, ...]] = ((_CODES["ret"], 0, 0, _ALL),)
