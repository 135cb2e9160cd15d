"""One request in, the running gateway's answer out; or one line that says why there is none."""

import grp
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ids_appliance.errors import ControlError, NotRunning, PermissionMissing
from ids_appliance.gateway.messages import (
    MAX_ANSWER_BYTES,
    Answer,
    AskEvents,
    Request,
    decode_answer,
    encode_request,
)
from ids_appliance.gateway.sockets import READ_SOCKET, WRITE_SOCKET

A = TypeVar("A")

DEADLINE_S = 6.0
"""Longer than the gateway itself waits, so that its own words arrive."""


class Client:
    """One connection to a gateway; a context manager."""

    def __init__(
        self, run_dir: Path, *, orders: bool = False, deadline_s: float = DEADLINE_S
    ) -> None:
        """Connect, for orders to the socket that takes them. Raises NotRunning, ControlError,
        PermissionMissing."""
        self._path = run_dir / (WRITE_SOCKET if orders else READ_SOCKET)
        self._deadline_s = deadline_s
        self._buffer = bytearray()
        self._searched = 0  # bytes of `_buffer` without a newline
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # A full backlog holds a connect up only in blocking mode, and only so can it be bounded.
        wait = struct.pack("ll", int(deadline_s), int(deadline_s % 1 * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, wait)
        try:
            self._socket.connect(os.fspath(self._path))
        except BlockingIOError as error:
            self._socket.close()
            raise self._silent() from error
        except PermissionError as error:
            self._socket.close()
            raise self._forbidden() from error
        except OSError as error:
            self._socket.close()
            what = "no gateway" if isinstance(error, FileNotFoundError) else "a gateway has died"
            if not isinstance(error, FileNotFoundError | ConnectionRefusedError):
                raise ControlError(f"{self._path}: {error.strerror or error}") from error
            raise NotRunning(
                f"{what} at {run_dir}: is it running? systemctl status ids-appliance "
                "(--run-dir or --config for one that runs elsewhere)"
            ) from error

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hang_up(self) -> None:
        """End a `follow` that another thread waits in; `close` comes after."""
        with suppress(OSError):  # the gateway has hung up already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up; safe to call twice."""
        self._socket.close()

    def ask(self, request: Request[A]) -> A:
        """Return the answer. Raises ControlError: refused, not understood, late, gone."""
        until = time.monotonic() + self._deadline_s
        line = encode_request(request)
        try:
            self._socket.settimeout(self._deadline_s)
            self._socket.sendall(line)
        except TimeoutError as error:
            raise self._silent() from error
        except OSError:
            pass  # refused already: the reason can still be read
        answer = self._line(until)
        if not answer.ok:
            if answer.kind == "denied":
                raise PermissionMissing(f"{answer.error}: try it with sudo")
            raise ControlError(answer.error or "the gateway refuses", kind=answer.kind)
        try:
            typed: A = msgspec.json.decode(answer.answer, type=request.answers)
        except (ValueError, RecursionError) as error:
            raise ControlError(f"the gateway's answer makes no sense: {error}") from error
        return typed

    def follow(self, n: int = 0) -> Iterator[dict[str, Any] | int]:
        """Yield the latest n events, then all that come; an int tells how many were missed.

        Ends when the gateway does. Raises ControlError."""
        yield from self.ask(AskEvents(n=n, follow=True))
        while True:
            try:
                answer = self._line(None)
            except NotRunning:
                return
            if answer.event is not None:
                yield answer.event
            elif answer.lost:
                yield answer.lost

    def _line(self, until: float | None) -> Answer:
        while True:
            end = self._buffer.find(b"\n", self._searched)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                self._searched = 0
                return decode_answer(line)
            self._searched = len(self._buffer)
            if self._searched > MAX_ANSWER_BYTES:
                raise ControlError("the gateway's answer is too long to be one")
            try:
                left = None if until is None else max(0.001, until - time.monotonic())
                self._socket.settimeout(left)
                got = self._socket.recv(65_536)
            except TimeoutError as error:
                raise self._silent() from error
            except OSError:
                got = b""
            if not got:
                raise NotRunning("the gateway hung up without an answer: systemctl status "
                                 "ids-appliance says whether it has stopped")  # fmt: skip
            self._buffer += got

    def _silent(self) -> ControlError:
        return ControlError(
            f"the gateway at {self._path.parent} does not answer within {self._deadline_s:g} s: "
            "journalctl -u ids-appliance may say why",
            kind="busy",
        )

    def _forbidden(self) -> PermissionMissing:
        if self._path.name == WRITE_SOCKET:
            return PermissionMissing("orders need root: try it with sudo")
        try:
            gid = self._path.stat().st_gid
        except OSError:
            gid = 0
        if gid == 0:
            return PermissionMissing(
                "questions to this gateway need root: try it with sudo, or set `group` in its "
                "configuration"
            )
        try:
            name = grp.getgrgid(gid).gr_name
        except KeyError:
            name = str(gid)
        return PermissionMissing(
            f"questions to this gateway are for root and group {name}: try it with sudo, or join "
            f"(usermod -aG {name} USER, then log in again)"
        )


def ask(run_dir: Path, request: Request[A], *, deadline_s: float = DEADLINE_S) -> A:
    """Connect, ask one thing, hang up. Raises what `Client` raises."""
    with Client(run_dir, orders=request.writes, deadline_s=deadline_s) as client:
        return client.ask(request)
