"""Whoever wants a drill in, the reports of drills out: one JSON line each way over a Unix socket.

A dashboard's process may not enter a namespace. `ids-appliance drill serve` may, and takes orders
from whoever has the gateway's token.
"""

import socket
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from ids_appliance.errors import DrillError

SOCKET: Final = "drill.sock"
MAX_BYTES: Final = 4096
MAX_ANSWER_BYTES: Final = 256 << 10
DEADLINE_S: Final = 5.0


class Step(msgspec.Struct, frozen=True):
    """One thing that was seen."""

    what: str
    """sent, trigger, window, verdict, decision, contained, ..."""
    after_s: float
    """Since the first frame was sent."""
    detail: str = ""


class Report(msgspec.Struct, kw_only=True):
    """One drill, under way or over."""

    kind: str
    began_ns: int
    """Since the epoch."""
    running: bool = True
    sent: int = 0
    arrived: int = 0
    """Frames of the attacker that the victim got."""
    last_arrival_s: float | None = None
    """When the latest of them came, since the first frame was sent."""
    steps: list[Step] = []
    outcome: str = ""
    """One sentence, once it is over."""


class Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question, or an order."""

    do: Literal["state", "start"]
    kind: Annotated[str, msgspec.Meta(max_length=40)] = ""
    token: Annotated[str, msgspec.Meta(max_length=128)] = ""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What is so now."""

    error: str = ""
    kinds: dict[str, str] = {}
    """Name -> what it does."""
    reports: list[Report] = []
    """The latest first."""


def ask_drills(run_dir: Path, question: Ask) -> State:
    """Return the answer of whoever serves drills there. Raises DrillError: nobody, or refused."""
    path = run_dir / SOCKET
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(DEADLINE_S)
            connection.connect(str(path))
            connection.sendall(msgspec.json.encode(question) + b"\n")
            state = msgspec.json.decode(read_line(connection, MAX_ANSWER_BYTES), type=State)
    except (OSError, ValueError) as error:
        raise DrillError(
            f"nobody serves drills at {path}: `ids-appliance drill prepare`, then `drill serve`"
        ) from error
    if state.error:
        raise DrillError(state.error)
    return state


def read_line(connection: socket.socket, most: int) -> bytes:
    """Return one line without its end. Raises OSError, also where it is too long or cut off."""
    line = bytearray()
    while not line.endswith(b"\n"):
        got = connection.recv(65_536)
        if not got or len(line) + len(got) > most:
            raise OSError("no whole line")
        line += got
    return bytes(line)
