"""A classic BPF program and a frame in, how many bytes pass out: the kernel's machine in Python.

Instructions of Documentation/networking/filter.rst; a load past the frame's end refuses it.
"""

from collections.abc import Sequence

WORD = 0xFFFFFFFF
HATYPE = 0xFFFFF000 + 28


def run(program: Sequence[tuple[int, int, int, int]], frame: bytes, hardware: int = 1) -> int:
    a = x = at = 0
    memory = [0] * 16
    while True:
        code, jt, jf, k = program[at]
        at += 1
        kind = code & 7
        if kind == 6:  # ret
            return k
        if kind == 0:  # ld
            size = {0x00: 4, 0x08: 2, 0x10: 1}[code & 0x18]
            mode = code & 0xE0
            if mode == 0x20 and k == HATYPE:
                a = hardware
            elif mode in (0x20, 0x40):
                start = k + (x if mode == 0x40 else 0)
                if start + size > len(frame):
                    return 0
                a = int.from_bytes(frame[start : start + size], "big")
            else:
                a = memory[k]
        elif kind == 1:
            x = k if code & 0xE0 == 0x00 else memory[k]
        elif kind == 2:
            memory[k] = a
        elif kind == 3:
            memory[k] = x
        elif kind == 4:
            operand = x if code & 8 else k
            a = {
                0x00: a + operand,
                0x10: a - operand,
                0x50: a & operand,
                0x60: a << operand,
                0x70: a >> operand,
            }[code & 0xF0] & WORD
        elif kind == 5:
            operation = code & 0xF0
            if operation == 0:
                at += k
            else:
                holds = a == k if operation == 0x10 else bool(a & k)
                at += jt if holds else jf
        else:
            x = a  # tax
