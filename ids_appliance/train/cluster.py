"""The address of a Dask cluster in, its workers doing our jobs out; needs the extra `cluster`."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeVar

from distributed import Client, KilledWorker, LocalCluster, as_completed

from ids_appliance.errors import ClusterError
from ids_appliance.schema import SCHEMA_HASH

J = TypeVar("J")
R = TypeVar("R")

CONNECT_S: Final = 30
MEMORY_BYTES: Final = 10**9
"""Of a local worker; Dask restarts one that takes more."""

_SCRATCH: Final = "ids-appliance-dask-"

_SAME: Final = ("ids-appliance", "numpy", "pyarrow", "scikit-learn")
"""Packages whose version decides the bytes of a table or a bundle."""


class Cluster:
    """Does jobs on a cluster's workers; a job whose worker dies is given to another one."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def run(self, function: Callable[[J], R], jobs: Sequence[J]) -> Iterator[tuple[int, R]]:
        """Yield (place in jobs, result) in the order in which they are done."""
        futures = self.client.map(function, jobs, pure=False)
        places = {future.key: place for place, future in enumerate(futures)}
        waiting = as_completed(futures, loop=self.client.loop)
        del futures  # a result is kept by the cluster as long as anybody here holds its future
        for future in waiting:
            try:
                result = future.result()
            except KilledWorker as error:
                job = jobs[places[future.key]]
                raise ClusterError(
                    f"workers died again and again on {_name(job)}: give them more memory"
                ) from error
            yield places[future.key], result


@contextmanager
def connect(address: str) -> Iterator[Cluster]:
    """Yield the workers at "local:N" (started here, ended at the end) or at a scheduler's address.

    Local workers speak TLS with a key of their own, because whoever reaches a scheduler may run
    anything on it; what a scheduler of one's own speaks is said by its address (tls://).
    Raises ClusterError: nobody there, no workers, other versions than here.
    """
    kind, _, number = address.partition(":")
    if kind != "local":
        with _client(address) as client:
            yield Cluster(client)
        return
    if not number.isdecimal() or not 1 <= int(number) <= 64:
        raise ClusterError(f"{address!r}: say how many workers, as in local:2 (1 to 64)")
    _clear_left()
    with (
        tempfile.TemporaryDirectory(prefix=f"{_SCRATCH}{os.getpid()}-") as scratch,
        LocalCluster(
            n_workers=int(number),
            threads_per_worker=1,
            memory_limit=MEMORY_BYTES,
            dashboard_address="127.0.0.1:0",
            security=True,
            silence_logs=logging.ERROR,
            local_directory=scratch,
        ) as cluster,
        _client(cluster) as client,
    ):
        yield Cluster(client)


def _clear_left() -> None:
    """Remove the scratch directories of runs that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        pid = path.name.removeprefix(_SCRATCH).partition("-")[0]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _client(address: Any) -> Iterator[Any]:
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ClusterError(f"no Dask scheduler answers at {address}: {error}") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_S)
        except TimeoutError as error:
            raise ClusterError(f"the Dask scheduler at {address} has no workers") from error
        ours = identity()
        for worker, theirs in client.run(identity).items():
            for what, one in ours.items():
                if theirs.get(what) != one:
                    raise ClusterError(
                        f"the worker {worker} has {what} {theirs.get(what)}, this program {one}: "
                        "tables would differ; install the same"
                    )
        yield client


def identity() -> dict[str, str]:
    """Return what has to be the same everywhere for the bytes to be."""
    return {name: version(name) for name in _SAME} | {"packet record": SCHEMA_HASH.hex()[:12]}


def _name(job: object) -> str:
    entry = getattr(getattr(job, "part", job), "entry", None)
    return str(getattr(entry, "file", job))
