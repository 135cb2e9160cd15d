"""A drawing in, a picture (PNG) out, where matplotlib is installed: it is an extra."""

from pathlib import Path
from typing import Any


def drawing() -> Any:
    """Return matplotlib's pyplot, drawing into files only; None where it is not installed."""
    try:
        import matplotlib  # noqa: PLC0415 - an extra

        matplotlib.use("Agg")
        from matplotlib import pyplot  # noqa: PLC0415
    except ImportError:
        return None
    return pyplot


def save(pyplot: Any, figure: Any, path: Path) -> None:
    """Write a figure to a file and forget it."""
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
