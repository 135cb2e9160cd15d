"""A bundle or a file of bounds about to be replaced in, the one before kept beside it; and back."""

import os
import shutil
from pathlib import Path

from ids_appliance.errors import StateError


def previous(path: Path) -> Path:
    """Return where the one before is kept."""
    return path.with_name(f"{path.name}.previous")


def keep(path: Path) -> bool:
    """Copy what is there, so that it can be gone back to; False where nothing is.

    Raises StateError where it cannot be copied.
    """
    kept, staged = previous(path), path.with_name(f".{path.name}.keeping")
    try:
        _remove(staged)
        if path.is_dir():
            shutil.copytree(path, staged)
        elif path.is_file():
            shutil.copy2(path, staged)
        else:
            return False
        _remove(kept)
        os.rename(staged, kept)
    except OSError as error:
        raise StateError(f"cannot keep {path} as {kept.name}: {error.strerror}") from error
    return True


def go_back(path: Path) -> None:
    """Exchange what is there and the one before; done twice, nothing has changed.

    Raises StateError where none is kept. Stopped in the middle, the same call completes it.
    """
    kept, aside = previous(path), path.with_name(f".{path.name}.aside")
    try:
        if not kept.exists() and aside.exists():  # stopped at the last step
            os.rename(aside, kept)
            return
        if not kept.exists():
            raise StateError(
                f"{kept} is not there: nothing was replaced that could be gone back to"
            )
        if path.exists():
            _remove(aside)
            os.rename(path, aside)
        os.rename(kept, path)
        if aside.exists():
            os.rename(aside, kept)
    except OSError as error:
        raise StateError(f"cannot go back to {kept}: {error.strerror}") from error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
