"""The bridge that a gateway acts on in, a file out; and from the file, the bridge without a trace.

So that `panic` finds the entries of a gateway that is dead, as it finds tables by their names. The
file lies in the gateway's run_dir: it goes with a reboot, like a local switch's entries.
"""

from pathlib import Path
from typing import Final

import msgspec

from ids_appliance.config import Enforce, OpenFlow
from ids_appliance.enforce.openflow_bridge import remove_ours
from ids_appliance.errors import EnforceError

NAME: Final = "openflow.json"
MAX_BYTES: Final = 65_536


def remember(run_dir: Path, settings: OpenFlow) -> None:
    """Leave word of the bridge. Raises EnforceError."""
    try:
        run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        (run_dir / NAME).write_bytes(msgspec.json.encode(settings))
    except OSError as error:
        raise EnforceError(f"{run_dir / NAME}: {error.strerror}") from error


def remembered(run_dir: Path) -> OpenFlow | None:
    """Return what was left word of. Raises EnforceError where that cannot be read."""
    path = run_dir / NAME
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAX_BYTES), type=OpenFlow)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise EnforceError(
            f"{path}: {error}: entries of ours on a switch end by themselves, or take them away: "
            "ovs-ofctl del-flows BRIDGE cookie=0x1d5a000000000000/0xffff000000000000"
        ) from error


def remove_remembered(run_dir: Path) -> list[str]:
    """Take everything of ours from the bridge that was left word of; return its name, if any.

    Raises EnforceError.
    """
    settings = remembered(run_dir)
    if settings is None:
        return []
    remove_ours(Enforce(openflow=settings))
    return [f"bridge {settings.bridge or settings.target}"]
