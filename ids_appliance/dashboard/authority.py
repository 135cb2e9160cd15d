"""A token that somebody has typed and an order in, the order given or refused out.

Whoever has the gateway's token (a file in its run directory, mode 0600, made anew at each start)
may order over the socket of questions: so the dashboard needs no right of its own, and knows no
secret. With a token file of its own it compares that one, and gives orders by the right of its
process, which is root then.
"""

import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from ids_appliance.errors import ConfigError, PermissionMissing
from ids_appliance.gateway.client import Client
from ids_appliance.gateway.messages import Request
from ids_appliance.gateway.sockets import TOKEN

SHORTEST: Final = 32
LONGEST: Final = 128
A = TypeVar("A")


class Authority:
    """Gives orders for whoever has the token."""

    def __init__(self, run_dir: Path, token_file: Path | None = None) -> None:
        self._run_dir = run_dir
        self._own = token_file

    @property
    def where(self) -> Path:
        """The file whose content is asked for."""
        return self._own or self._run_dir / TOKEN

    def give(self, request: Request[A], token: str) -> A:
        """Let the gateway carry it out. Raises PermissionMissing: not the token; ControlError."""
        token = token.strip()
        if not token:
            raise PermissionMissing(f"orders need the token: the content of {self.where}")
        if self._own is None:
            if len(token) > LONGEST:
                raise PermissionMissing("that is not the token: it is too long")
            with_token: Any = msgspec.structs.replace(request, token=token)
            with Client(self._run_dir) as client:
                answer: A = client.ask(with_token)
                return answer
        if not hmac.compare_digest(token.encode(), read_token(self._own).encode()):
            raise PermissionMissing(f"that is not the token: it is the content of {self._own}")
        with Client(self._run_dir, orders=True) as client:
            return client.ask(request)


def read_token(path: Path) -> str:
    """Return a token file's content. Raises ConfigError: not to be read, or by others, too."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            content = file.read(LONGEST + 2).decode("utf-8", "replace").strip()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: the dashboard's token is to be there") from (
            error
        )
    if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
        raise ConfigError(f"{path} can be read by others: chmod 600 {path}")
    if not SHORTEST <= len(content) <= LONGEST or not content.isprintable():
        raise ConfigError(
            f"{path} is no token: {SHORTEST} to {LONGEST} characters; remove it for a new one"
        )
    return content


def make_token(path: Path) -> None:
    """Write a new token to a file with mode 0600; one that is there stays. Raises ConfigError."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(path, flags, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(SHORTEST) + "\n")
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    read_token(path)
