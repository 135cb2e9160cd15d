"""An interface's name in, its speed and MTU out (ETHTOOL_GSET, linux/ethtool.h; netdevice(7)).

Not from sysfs, which shows the network namespace that it was mounted in, not the thread's.
"""

import ctypes
import fcntl
import socket
import struct
from typing import Final

from ids_appliance.errors import EnforceError

_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_GSET: Final = 1
_SIOCGIFMTU: Final = 0x8921
_SIZE: Final = 44
_SPEED, _SPEED_HIGH = 12, 28
_UNKNOWN: Final = 0xFFFF_FFFF


def link_speed(name: str) -> int:
    """Return bits a second; 0 where there is no such interface, or it states none (radio, tun)."""
    command = ctypes.create_string_buffer(struct.pack("=I", _ETHTOOL_GSET), _SIZE)
    request = struct.pack("16sQ16x", name.encode(), ctypes.addressof(command))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
        except OSError:
            return 0
    (low,) = struct.unpack_from("=H", command.raw, _SPEED)
    (high,) = struct.unpack_from("=H", command.raw, _SPEED_HIGH)
    mbit = high << 16 | low
    return 0 if mbit in (0, 0xFFFF, _UNKNOWN) else mbit * 1_000_000


def interface_mtu(name: str) -> int:
    """Return an interface's MTU in bytes. Raises EnforceError: it is gone."""
    request = struct.pack("16s24x", name.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, _SIOCGIFMTU, request)
        except OSError as error:
            raise EnforceError(f"there is no such interface ({error.strerror})") from error
    return int(struct.unpack_from("=i", answer, 16)[0])
