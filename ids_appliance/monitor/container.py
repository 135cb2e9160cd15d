"""What is to be captured in; the words that start tcpdump for it, shut away, out.

In a container or on this machine tcpdump runs as nobody, with CAP_NET_RAW and no other capability,
and can write nothing but the pipe to us: in a container by a read-only root, here by a limit of
zero on the size of files. So both can be used for each other.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from ids_appliance.errors import MonitorError
from ids_appliance.monitor.capture_settings import Engine

NOBODY: Final = 65534
ENGINES: Final = ("podman", "docker")
LABEL: Final = "ids-appliance.capture"
NAMESPACES: Final = Path("/run/netns")
CONTAINERFILE: Final = resources.files("ids_appliance.monitor") / "container" / "Containerfile"
_ASK_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Tap:
    """What is captured."""

    interface: str
    namespace: str = ""
    """Network namespace it is in (ip-netns(8)); empty: ours."""
    container: str = ""
    """Or a running container that it is in."""
    filter: str = ""
    count: int = 0
    """Frames after which it ends; 0: never."""
    snap_bytes: int = 0
    """Bytes of each frame; 0: all."""
    buffer_mib: int = 32

    @property
    def where(self) -> str:
        """Name it for people."""
        inside = self.namespace or self.container
        place = f"{self.interface} in {inside}" if inside else self.interface
        return f"{place} with the filter {self.filter!r}" if self.filter else place

    def arguments(self) -> list[str]:
        """Return what tcpdump is to do: whole frames to standard output, as they come."""
        words = ["-i", self.interface, "-n", "-U", "--time-stamp-precision=nano"]
        words += ["-s", f"{self.snap_bytes}", "-B", f"{self.buffer_mib << 10}"]
        if self.count:
            words += ["-c", f"{self.count}"]
        words += ["-w", "-"]
        return [*words, "--", self.filter] if self.filter else words


def choose(wanted: Engine, tap: Tap, *, image: str) -> str:
    """Return who runs tcpdump: "podman", "docker" or "none".

    Raises MonitorError where what was asked for by name cannot do it."""
    if wanted != "auto":
        if wanted != "none" and (why := _unfit(wanted, tap, image)):
            raise MonitorError(why)
        return wanted
    return next((engine for engine in ENGINES if not _unfit(engine, tap, image)), "none")


def _unfit(engine: str, tap: Tap, image: str) -> str:
    """Return why an engine cannot capture here; empty if it can."""
    if shutil.which(engine) is None:
        return f"{engine} is not installed: use --engine none"
    if engine == "docker" and tap.namespace:
        return "docker joins no namespace by its name: use --engine podman or none"
    said = _ask(engine, "info")
    if said is None:
        return f"{engine} does not answer: is its service running? Else use --engine none"
    if _ask(engine, "image", "inspect", image) is None:
        return f"{engine} has no image {image!r}: build it with ids-appliance monitor image"
    return ""


def words(engine: str, tap: Tap, *, image: str) -> list[str]:
    """Return the words that start tcpdump, confined. Raises MonitorError: no such namespace."""
    if tap.namespace and not (NAMESPACES / tap.namespace).exists():
        raise MonitorError(f"there is no network namespace {tap.namespace!r} (ip netns list)")
    if engine == "none":
        return _here(tap)
    network = "host"
    if tap.container:
        network = f"container:{tap.container}"
    elif tap.namespace:
        network = f"ns:{NAMESPACES / tap.namespace}"
    return [
        *_dying_with_us(),
        engine,
        "run",
        "--rm",
        "--pull=never",
        f"--label={LABEL}={owner()}",
        f"--network={network}",
        "--cap-drop=ALL",
        "--cap-add=NET_RAW",
        f"--user={NOBODY}:{NOBODY}",
        "--read-only",
        "--log-driver=none",
        "--pids-limit=16",
        image,
        *tap.arguments(),
    ]


def _here(tap: Tap) -> list[str]:
    command = ["tcpdump", *tap.arguments()]
    if shutil.which("tcpdump") is None:
        raise MonitorError("tcpdump is not installed: apt-get install tcpdump")
    if os.geteuid() != 0:
        if tap.namespace or tap.container:
            raise MonitorError(f"capturing at {tap.where} needs root: run it again as root")
        return command  # with whatever capability the program itself has
    joined = []
    if tap.container:
        joined = [f"--net=/proc/{_first_process(tap.container)}/ns/net"]
    elif tap.namespace:
        joined = [f"--net={NAMESPACES / tap.namespace}"]
    # Each program becomes the next one, so that a signal to the process reaches tcpdump.
    return [
        *(["nsenter", *joined, "--"] if joined else []),
        *("prlimit", "--fsize=0", "--core=0", "--"),
        *("unshare", "--mount", "--ipc", "--uts", "--"),
        "setpriv",
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        "--no-new-privs",
        *(f"--{kind}=-all,+net_raw" for kind in ("inh-caps", "ambient-caps", "bounding-set")),
        # After the change of user, which would clear it (prctl(2)).
        "--pdeathsig=TERM",
        "--",
        *command,
    ]


def _first_process(container: str) -> int:
    """Return the id of a running container's first process. Raises MonitorError."""
    for engine in ENGINES:
        if shutil.which(engine) is not None:
            said = _ask(engine, "container", "inspect", "--format={{.State.Pid}}", container)
            if said and said.strip().isdecimal() and int(said) > 0:
                return int(said)
    raise MonitorError(f"no container {container!r} runs, or no engine answers")


def _dying_with_us() -> list[str]:
    """Return what makes the engine's client stop the container when we are killed."""
    return ["setpriv", "--pdeathsig=TERM", "--"] if shutil.which("setpriv") else []


def owner(pid: int | None = None) -> str:
    """Return the label of what a process has started: its id and start (proc(5))."""
    pid = pid or os.getpid()
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return f"{pid}.{text.rpartition(')')[2].split()[19]}"


def sweep(engine: str) -> list[str]:
    """Remove containers whose capture was killed before it could; return their ids."""
    form = '{{.ID}} {{.Label "' + LABEL + '"}}'
    listed = _ask(engine, "ps", "--all", f"--filter=label={LABEL}", f"--format={form}") or ""
    left = []
    for line in listed.splitlines():
        container, _, label = line.partition(" ")
        pid = label.partition(".")[0]
        if pid.isdecimal() and owner(int(pid)) != label:
            left.append(container)
    if left:
        _ask(engine, "rm", "--force", *left)
    return left


def _ask(engine: str, *arguments: str) -> str | None:
    """Return what an engine answers; None where it does not, or says no."""
    try:
        done = subprocess.run(
            [engine, *arguments], capture_output=True, text=True, timeout=_ASK_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def build_words(engine: str, image: str, *, base: str = "", extra: Sequence[str] = ()) -> list[str]:
    """Return the words that build the image; `base` instead of the Containerfile's, `extra`
    Debian packages beside tcpdump."""
    words = [engine, "build", "--network=host", f"--tag={image}"]
    if base:
        words.append(f"--build-arg=BASE={base}")
    if extra:
        words.append(f"--build-arg=EXTRA={' '.join(extra)}")
    return [*words, f"--file={CONTAINERFILE}", str(Path(str(CONTAINERFILE)).parent)]
