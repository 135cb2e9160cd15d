"""Questions and orders as JSON lines, and back: what travels over the control sockets.

A request is one line, `{"v":1,"do":"why","text":"192.0.2.7"}`; its answer is one line,
`{"v":1,"ok":true,"answer":{...}}` or `{"v":1,"ok":false,"kind":"failed","error":"..."}`. After
`events` with `follow`, lines `{"v":1,"event":{...}}` come until either end closes, and
`{"v":1,"lost":12}` where a slow reader has missed some.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

import msgspec

from ids_appliance.errors import ControlError
from ids_appliance.gateway.actions import (
    Actions,
    AllowList,
    DecisionInfo,
    DecisionPage,
    Done,
    Mode,
    Status,
    WhyInfo,
    WindowInfo,
)

VERSION = 1
MAX_REQUEST_BYTES = 4096
MAX_ANSWER_BYTES = 4 << 20
MAX_ITEMS = 2000
"""Windows, decisions or events in one answer; keeps it below MAX_ANSWER_BYTES."""
MAX_PAGE = 200
"""Decisions in one page."""

A = TypeVar("A")
Text = Annotated[str, msgspec.Meta(max_length=200)]
Interface = Annotated[str, msgspec.Meta(max_length=15)]
Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_ITEMS)]
Duration = Annotated[float, msgspec.Meta(ge=0, le=366 * 86_400)]

ErrorKind = Literal["request", "version", "denied", "busy", "failed"]
"""request: not understood; version: another protocol; denied: no right to it; busy: not now;
failed: understood, and it cannot be done."""


class Request(
    msgspec.Struct,
    Generic[A],
    frozen=True,
    kw_only=True,
    tag_field="do",
    forbid_unknown_fields=True,
):
    """What all requests share; `run` is called in the gateway's loop."""

    writes: ClassVar[bool] = False
    """It changes something: needs the write socket, or the token."""
    answers: ClassVar[Any]
    """Type of the answer."""

    v: int = VERSION
    token: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    """Content of the token file, for an order over the read socket."""

    def run(self, actions: Actions) -> A:
        """Let `actions` do it."""
        raise NotImplementedError


class AskStatus(Request[Status], frozen=True, kw_only=True, tag="status"):
    answers = Status

    def run(self, actions: Actions) -> Status:
        return actions.status()


class AskWindows(Request[Sequence[WindowInfo]], frozen=True, kw_only=True, tag="windows"):
    answers = list[WindowInfo]
    n: Count = 20

    def run(self, actions: Actions) -> Sequence[WindowInfo]:
        return actions.windows(self.n)[: self.n]


class AskDecisions(Request[Sequence[DecisionInfo]], frozen=True, kw_only=True, tag="decisions"):
    answers = list[DecisionInfo]
    n: Count = 200

    def run(self, actions: Actions) -> Sequence[DecisionInfo]:
        return actions.decisions(self.n)[: self.n]


class AskPage(Request[DecisionPage], frozen=True, kw_only=True, tag="page"):
    answers = DecisionPage
    n: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE)] = 20
    offset: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    find: Text = ""

    def run(self, actions: Actions) -> DecisionPage:
        return actions.page(self.n, offset=self.offset, find=self.find)


class AskWhy(Request[WhyInfo], frozen=True, kw_only=True, tag="why"):
    answers = WhyInfo
    text: Text

    def run(self, actions: Actions) -> WhyInfo:
        return actions.why(self.text)


class AskAllowed(Request[AllowList], frozen=True, kw_only=True, tag="allow-list"):
    answers = AllowList

    def run(self, actions: Actions) -> AllowList:
        return actions.allow("list", "")


class AskEvents(Request[list[dict[str, Any]]], frozen=True, kw_only=True, tag="events"):
    """The sockets answer this by themselves, from what was last published."""

    answers = list[dict[str, Any]]
    n: Annotated[int, msgspec.Meta(ge=0, le=MAX_ITEMS)] = 20
    follow: bool = False


class Allow(Request[AllowList], frozen=True, kw_only=True, tag="allow"):
    writes = True
    answers = AllowList
    op: Literal["add", "remove"]
    text: Text
    interface: Interface = ""
    comment: Text = ""

    def run(self, actions: Actions) -> AllowList:
        return actions.allow(self.op, self.text, interface=self.interface, comment=self.comment)


class Release(Request[Done], frozen=True, kw_only=True, tag="release"):
    writes = True
    answers = Done
    text: Text

    def run(self, actions: Actions) -> Done:
        return actions.release(self.text)


class Quarantine(Request[Done], frozen=True, kw_only=True, tag="quarantine"):
    writes = True
    answers = Done
    text: Text
    for_s: Duration

    def run(self, actions: Actions) -> Done:
        return actions.quarantine(self.text, self.for_s)


class Pause(Request[Done], frozen=True, kw_only=True, tag="pause"):
    writes = True
    answers = Done
    for_s: Duration

    def run(self, actions: Actions) -> Done:
        return actions.pause(self.for_s)


class Panic(Request[Done], frozen=True, kw_only=True, tag="panic"):
    writes = True
    answers = Done

    def run(self, actions: Actions) -> Done:
        return actions.panic()


class Enforce(Request[Done], frozen=True, kw_only=True, tag="enforce"):
    writes = True
    answers = Done
    on: bool

    def run(self, actions: Actions) -> Done:
        return actions.enforce(self.on)


class SetWindow(Request[Done], frozen=True, kw_only=True, tag="window"):
    writes = True
    answers = Done
    open_: bool

    def run(self, actions: Actions) -> Done:
        return actions.window(self.open_)


class SetMode(Request[Done], frozen=True, kw_only=True, tag="mode"):
    writes = True
    answers = Done
    name: Mode

    def run(self, actions: Actions) -> Done:
        return actions.mode(self.name)


class Reload(Request[Done], frozen=True, kw_only=True, tag="reload"):
    writes = True
    answers = Done

    def run(self, actions: Actions) -> Done:
        return actions.reload()


AnyRequest = (
    AskStatus
    | AskWindows
    | AskDecisions
    | AskPage
    | AskWhy
    | AskAllowed
    | AskEvents
    | Allow
    | Release
    | Quarantine
    | Pause
    | Panic
    | Enforce
    | SetWindow
    | SetMode
    | Reload
)


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The line that answers a request, and those that follow it."""

    v: int = 0
    ok: bool = False
    answer: msgspec.Raw = msgspec.Raw(b"")
    kind: str = "failed"
    error: str = ""
    event: dict[str, Any] | None = None
    lost: int = 0


class _Version(msgspec.Struct, frozen=True):
    v: int


_VERSION = msgspec.json.Decoder(_Version)
_REQUEST = msgspec.json.Decoder(AnyRequest)
_ANSWER = msgspec.json.Decoder(Answer)
_ENCODER = msgspec.json.Encoder()


def decode_request(line: bytes) -> AnyRequest:
    """Return the request of a line. Raises ControlError, with one line that says what is wrong."""
    try:
        v = _VERSION.decode(line).v
        if v != VERSION:
            raise ControlError(
                f"protocol version {str(v)[:20]} is not spoken here, only {VERSION}: "
                "gateway and command are of different releases",
                kind="version",
            )
        request: AnyRequest = _REQUEST.decode(line)
    except (ValueError, RecursionError) as error:
        raise ControlError(f"not a request: {str(error)[:200]}", kind="request") from error
    return request


def encode_request(request: Request[Any]) -> bytes:
    """Return its line. Raises ControlError for text that is no text (lone surrogates)."""
    try:
        return _ENCODER.encode(request) + b"\n"
    except ValueError as error:
        raise ControlError(f"cannot be sent: {error}", kind="request") from error


def encode_answer(answer: object) -> bytes:
    """Return the line for what an action returned; one that is too long becomes an error line."""
    try:
        line = _ENCODER.encode({"v": VERSION, "ok": True, "answer": answer}) + b"\n"
    except (ValueError, RecursionError) as error:
        return encode_error("failed", f"the answer cannot be told as JSON: {error}")
    if len(line) > MAX_ANSWER_BYTES:
        return encode_error("failed", "the answer is too long: ask for fewer (-n)")
    return line


def encode_error(kind: ErrorKind, message: str) -> bytes:
    """Return the line that refuses a request."""
    message = " ".join(message.encode("utf-8", "replace").decode().split())[:500]
    return _ENCODER.encode({"v": VERSION, "ok": False, "kind": kind, "error": message}) + b"\n"


def encode_event(event: dict[str, Any]) -> bytes:
    """Return a follower's line. Raises ValueError or TypeError for what JSON cannot say."""
    return _ENCODER.encode({"v": VERSION, "event": event}) + b"\n"


def encode_lost(count: int) -> bytes:
    """Return the line that tells a follower what it has missed."""
    return _ENCODER.encode({"v": VERSION, "lost": count}) + b"\n"


def decode_answer(line: bytes) -> Answer:
    """Return the answer of a line. Raises ControlError."""
    try:
        answer = _ANSWER.decode(line)
    except (ValueError, RecursionError) as error:
        raise ControlError(f"the gateway's answer makes no sense: {error}") from error
    if answer.v != VERSION:
        raise ControlError(
            f"the gateway speaks protocol version {answer.v}, this command {VERSION}: "
            "they are of different releases"
        )
    return answer
