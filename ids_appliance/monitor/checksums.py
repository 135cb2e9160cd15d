"""Finished files in, SHA256SUMS out: one line a file, as `sha256sum --check` reads it."""

import contextlib
import hashlib
import os
import re
from pathlib import Path
from typing import Final

from ids_appliance.monitor.ownership import Caller, create

NAME: Final = "SHA256SUMS"
_LINE: Final = re.compile(r"([0-9a-f]{64})  ([^/\n]+)")
_BYTES: Final = 16 << 20
_PIECE: Final = 1 << 20


class Checksums:
    """The list of one directory; replaced as a whole, so that a reader never sees half of it."""

    def __init__(self, directory: Path, caller: Caller) -> None:
        """Raises OSError."""
        self._path = directory / NAME
        self._caller = caller
        self.lines: dict[str, str] = {}
        """File name -> digest."""
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            text = file.read(_BYTES).decode("utf-8", "replace")
            self.lines = {name: digest for digest, name in _LINE.findall(text)}

    def set(self, name: str, digest: str) -> None:
        """Enter a finished file."""
        self.lines[name] = digest

    def drop(self, name: str) -> None:
        """Forget a file that has given way."""
        self.lines.pop(name, None)

    def save(self) -> None:
        """Write the list. Raises OSError."""
        part = self._path.with_name(f".{NAME}.part")
        with contextlib.suppress(FileNotFoundError):
            part.unlink()  # of one that was killed; the directory's lock is ours
        fd = create(part, self._caller)
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.writelines(f"{self.lines[name]}  {name}\n" for name in sorted(self.lines))
            os.replace(part, self._path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            raise


def sha256(path: Path) -> str:
    """Return a file's digest. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
