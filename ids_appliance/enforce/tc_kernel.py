"""Commands of tc(8) in, what the kernel's queues are and hold out.

The program, not netlink of our own: it knows each queue's attributes, and is asked once in seconds.
Its JSON has queues with their counters, but (iproute2 6.1) no classes: every class of ours has a
queue of a known handle, whose counters are the class's.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ids_appliance.enforce.marks import TrafficClass
from ids_appliance.enforce.nft import may_administer
from ids_appliance.enforce.tc_plan import CLASS_IDS, HANDLE, INNER, QUEUES
from ids_appliance.errors import EnforceError, PermissionMissing

_TIMEOUT_S: Final = 20.0
_PLACES: Final = "/usr/sbin:/sbin:/usr/bin:/bin"
PROBES: Final = {
    "htb": "htb",
    "tbf": "tbf rate 1mbit burst 10kb limit 10kb",
    "fq_codel": "fq_codel",
    "sfq": "sfq",
    "pfifo": "pfifo limit 10",
}
"""Kind -> as it is tried."""
COUNTED: Final = {
    "packets": "packets",
    "bytes": "bytes",
    "drops": "dropped",
    "qlen": "waiting",
    "backlog": "waiting_bytes",
}
"""Field of tc's JSON -> what we call it."""


class TcError(EnforceError):
    """tc or the kernel refused a command."""

    def __init__(self, said: str) -> None:
        lines = [line for line in said.splitlines() if line.strip()]
        text = next((one for one in lines if "Error:" in one or "RTNETLINK" in one), "")
        super().__init__(text.partition("Error: ")[2] or text or " ".join(lines)[:200])
        self.unknown_kind: Final = "qdisc kind is unknown" in said or "No such file" in said
        found = re.search(r"Command failed -:(\d+)", said)
        self.line: Final = int(found[1]) if found else 0
        """Of the batch, from 1."""


@dataclass(frozen=True, slots=True)
class Queues:
    """What one interface's queues are."""

    root: str = ""
    """Kind and handle of a root that is neither ours nor the kernel's own choice, for people."""
    ours: bool = False
    """The root is our HTB."""
    kinds: dict[TrafficClass, str] = field(default_factory=dict)
    """Kind of each class's queue, where the root is ours."""
    splits: int = 0
    """Bytes from which on they split a packet, or drop what cannot be split; 0: they do not."""
    counts: dict[TrafficClass, dict[str, int]] = field(default_factory=dict)
    """The same queues: values of COUNTED -> number."""

    @property
    def whole(self) -> bool:
        """Whether our root has all its queues."""
        return self.ours and len(self.kinds) == len(TrafficClass)


def run(lines: Sequence[str]) -> None:
    """Carry out commands, up to the first that fails. Raises TcError, PermissionMissing."""
    _tc("-batch", "-", text="".join(f"{line}\n" for line in lines))


def look() -> dict[str, Queues]:
    """Return the queues of every interface of this network namespace. Raises TcError."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(_tc("-s", "-j", "qdisc", "show") or "[]"):
        found.setdefault(str(one.get("dev", "")), []).append(one)
    return {name: _queues(some) for name, some in found.items()}


def missing_kinds() -> tuple[str, ...]:
    """Return the queue disciplines that this kernel lacks, tried in a namespace that ends at once.

    Raises EnforceError: there is no tc, or no such namespace can be made."""
    lines = [f"qdisc add dev lo root {one}" for one in PROBES.values()]
    both = [line for add in lines for line in (add, "qdisc del dev lo root")]
    program = _program()
    words = ["unshare", "--net", program, "-force", "-batch", "-"]
    text = "".join(f"{line}\n" for line in both)
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnforceError(f"queues cannot be tried: {error}") from error
    if "unshare" in done.stderr:
        raise EnforceError(f"queues cannot be tried: {done.stderr.strip()[:100]}")
    failed = {int(number) for number in re.findall(r"Command failed -:(\d+)", done.stderr)}
    return tuple(kind for at, kind in enumerate(PROBES) if 2 * at + 1 in failed)


def classes(name: str) -> str:
    """Return an interface's classes as text, without counters: equal while nobody changed them."""
    return _tc("-d", "class", "show", "dev", name)


def _queues(found: Sequence[dict[str, Any]]) -> Queues:
    root: dict[str, Any] = next((one for one in found if one.get("root")), {})
    handle, kind = str(root.get("handle", "0:")), str(root.get("kind", ""))
    if (handle, kind) != (HANDLE, "htb"):
        # The kernel's own choice has no handle: it is what comes back when ours goes.
        return Queues(root="" if handle == "0:" else f"{kind} {handle}")
    default = str(root.get("options", {}).get("default", ""))
    kinds, counts = {}, {}
    splits = 0
    at = {(str(one.get("handle")), str(one.get("parent"))): one for one in found}
    for which, queue in QUEUES.items():
        one = inner = at.get((queue, CLASS_IDS[which]))
        if one is not None and one.get("kind") == "tbf":
            splits = int(one.get("options", {}).get("burst", 1))
            inner = at.get((INNER[which], f"{queue}1"))
        if one is not None and inner is not None and default == "0x30":
            kinds[which] = str(inner.get("kind"))
            counts[which] = {word: int(one.get(key, 0)) for key, word in COUNTED.items()}
    return Queues(ours=True, kinds=kinds, splits=splits, counts=counts)


def _program() -> str:
    program = shutil.which("tc") or shutil.which("tc", path=_PLACES)
    if program is None:
        raise EnforceError("tc is not installed, and [tc] rates need it: apt-get install iproute2")
    return program


def _tc(*words: str, text: str = "") -> str:
    program = _program()
    try:
        done = subprocess.run(
            [program, *words], input=text, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise EnforceError(f"tc gives no answer for {_TIMEOUT_S:g} s") from error
    if done.returncode == 0:
        return done.stdout
    if "Operation not permitted" in done.stderr and not may_administer():
        raise PermissionMissing(
            "CAP_NET_ADMIN is missing: run as root, or give the service that capability"
        )
    raise TcError(done.stderr or done.stdout)
