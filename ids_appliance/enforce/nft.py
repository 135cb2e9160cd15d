"""Commands of the nft language in, the kernel's answer out: libnftables.so.1 through ctypes.

One call is one transaction (libnftables(3)): all of it holds afterwards, or none. A call costs
0.1 ms where starting the `nft` program costs 3 ms.
"""

import ctypes
import os
import threading
from typing import Final

from ids_appliance.errors import EnforceError, IdsError, PermissionMissing

LIBRARY: Final = "libnftables.so.1"
TERSE: Final = (1 << 11) | (1 << 2)
"""NFT_CTX_OUTPUT_TERSE | NFT_CTX_OUTPUT_STATELESS: structure without elements and counters."""

_CAP_NET_ADMIN: Final = 12


class NftError(EnforceError):
    """libnftables or the kernel refused a command; the message is the first line of its error."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.full: Final = "No buffer space" in said or "Too many open files in system" in said
        """A set has no room (ENFILE), or netlink had none (ENOBUFS)."""
        self.missing: Final = "No such file or directory" in said


def _library() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise EnforceError(
            f'{LIBRARY} cannot be loaded: install libnftables1, or set enforce.backend = "dry-run"'
        ) from error
    lib.nft_ctx_new.restype = ctypes.c_void_p
    lib.nft_ctx_new.argtypes = [ctypes.c_uint32]
    lib.nft_ctx_free.restype = None
    lib.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
    lib.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    for name in ("free", "buffer_output", "buffer_error", "get_output_buffer", "get_error_buffer"):
        getattr(lib, f"nft_ctx_{name}").argtypes = [ctypes.c_void_p]
    lib.nft_ctx_output_set_flags.restype = None
    lib.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    lib.nft_ctx_set_dry_run.restype = None
    lib.nft_ctx_set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
    lib.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return lib


class _Context:
    """One nft_ctx: a netlink socket in the namespace of the thread that made it."""

    def __init__(self, lib: ctypes.CDLL) -> None:
        self._free = lib.nft_ctx_free
        made = lib.nft_ctx_new(0)
        if not made:
            raise EnforceError("libnftables gives no context: no netlink socket can be had")
        self.handle: int = made
        lib.nft_ctx_buffer_output(made)
        lib.nft_ctx_buffer_error(made)

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            self._free(self.handle)


class Nft:
    """Runs commands; one context per thread, made at its first command."""

    def __init__(self) -> None:
        self._lib = _library()
        self._local = threading.local()

    def run(self, commands: str, *, flags: int = 0, check: bool = False) -> str:
        """Run commands (a script, as for `nft -f`) as one transaction; return what they printed.

        flags: NFT_CTX_OUTPUT_* such as TERSE. check: let the kernel look at them and take nothing
        over, as `nft -c`. Raises NftError; PermissionMissing without CAP_NET_ADMIN.
        """
        context = self._context()
        self._lib.nft_ctx_output_set_flags(context, flags)
        self._lib.nft_ctx_set_dry_run(context, check)
        failed = self._lib.nft_run_cmd_from_buffer(context, commands.encode())
        output: bytes = self._lib.nft_ctx_get_output_buffer(context) or b""
        said: bytes = self._lib.nft_ctx_get_error_buffer(context) or b""
        if failed:
            raise self._error(said.decode("utf-8", "replace"))
        return output.decode("utf-8", "replace")

    def _context(self) -> int:
        context: _Context | None = getattr(self._local, "context", None)
        if context is None:
            context = self._local.context = _Context(self._lib)
        return context.handle

    @staticmethod
    def _error(said: str) -> IdsError:
        lines = [line for line in said.splitlines() if "Error:" in line] or said.splitlines()
        first = (
            lines[0].partition("Error: ")[2] or lines[0] if lines else "libnftables says nothing"
        )
        if "Operation not permitted" in said and not may_administer():
            return PermissionMissing(
                "CAP_NET_ADMIN is missing: run as root, or give the service that capability"
            )
        return NftError(first)


def may_administer() -> bool:
    """Return whether this process may set rules in its network namespace (capabilities(7))."""
    with open("/proc/self/status", encoding="ascii") as status:
        held = next((line for line in status if line.startswith("CapEff:")), "CapEff: 0")
    return bool(int(held.split()[1], 16) >> _CAP_NET_ADMIN & 1) or os.geteuid() == 0
