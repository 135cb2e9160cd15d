"""The kernel's ruleset in, a number out that changes with every transaction of anybody's."""

import socket
import struct
from typing import Final

_NETLINK_NETFILTER: Final = 12
_NFT_MSG_GETGEN: Final = (10 << 8) | 16  # NFNL_SUBSYS_NFTABLES (linux/netfilter/nf_tables.h)
_NFTA_GEN_ID: Final = 1
_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = 1


def generation() -> int:
    """Return the generation of this network namespace's rules; -1 where the kernel will not say.

    It costs 0.03 ms, where listing 10,000 elements costs 100 ms. Elements that end by themselves
    and sets that packets fill do not change it.
    """
    message = _HEADER.pack(_HEADER.size + 4, _NFT_MSG_GETGEN, _REQUEST, 1, 0) + bytes(4)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as kernel:
        kernel.settimeout(1.0)
        kernel.send(message)
        try:
            answer = kernel.recv(1 << 13)
        except TimeoutError:
            return -1
    at = _HEADER.size + 4
    while at + 8 <= len(answer):
        length, kind = struct.unpack_from("=HH", answer, at)
        if kind == _NFTA_GEN_ID and length == 8:
            return int(struct.unpack_from(">I", answer, at + 4)[0])
        at += max(4, (length + 3) & ~3)
    return -1
