"""Nothing in; what machine, kernel and versions a figure is of, out."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from ids_appliance import __version__

_PACKAGES: Final = ("numpy", "scikit-learn", "msgspec", "psutil")


def machine() -> dict[str, Any]:
    """Return what a result has to name."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "kernel": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "load_average": os.getloadavg()[0],
        "versions": {"ids-appliance": __version__, "python": platform.python_version()}
        | {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return platform.machine()
