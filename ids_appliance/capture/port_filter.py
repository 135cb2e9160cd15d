"""Interfaces and a socket filter in, the one filter of a ring on all interfaces out.

The program asks which interface a frame passes, lets the filter proper decide where it is one of
ours, and refuses the rest: what is refused is neither copied nor counted (classic BPF,
Documentation/networking/filter.rst). A loopback interface shows each frame as sent and as received;
the sent one is refused.
"""

from collections.abc import Sequence
from typing import Final

Instruction = tuple[int, int, int, int]
"""(code, jt, jf, k) as in struct sock_filter."""

_AD: Final = 0xFFFFF000  # SKF_AD_OFF: what the kernel knows beside the frame's bytes
_PKTTYPE, _IFINDEX = _AD + 4, _AD + 8
_OUTGOING: Final = 4  # PACKET_OUTGOING
_LD, _LD_IMM, _JA, _JEQ, _RET = 0x20, 0x00, 0x05, 0x15, 0x06
_REFUSE: Final[Instruction] = (_RET, 0, 0, 0)
_PASS: Final[Instruction] = (_RET, 0, 0, 0x40000)


def of_ports(
    ports: Sequence[int], body: Sequence[Instruction], *, loopback: Sequence[int] = ()
) -> tuple[Instruction, ...]:
    """Return the program for the interfaces with these indices.

    body: what decides about their frames, as it would alone; empty: all pass. loopback: those of
    the interfaces that are of that kind. Jumps of classic BPF count from where they stand, so the
    body needs no change; a conditional one reaches 255 instructions, hence a `ja` for each port.
    """
    head: list[Instruction] = [(_LD, 0, 0, _IFINDEX)]
    end = 1 + sum(5 if index in loopback else 2 for index in ports) + 1
    for index in ports:
        if index in loopback:
            head += [(_JEQ, 0, 4, index), (_LD, 0, 0, _PKTTYPE), (_JEQ, 0, 1, _OUTGOING), _REFUSE]
        else:
            head.append((_JEQ, 0, 1, index))
        head.append((_JA, 0, 0, end - len(head) - 1))
    return (*head, _REFUSE, (_LD_IMM, 0, 0, 0), *(body or (_PASS,)))
