"""JSON lines in, verdicts by scikit-learn out: the published node, batched as far as it goes.

    python -m ids_appliance.bench.literal_node HOST PORT

One object a packet with the 20 features by name, one object a verdict. All lines that have come are
parsed in one call and judged in one call; while it judges, the next ones gather in the socket.
"""

import json
import operator
import socket
import sys
from typing import Any, Final

import numpy as np

from ids_appliance.bench.literal_forest import NAMES, fitted

MAX_READ: Final = 1 << 20
_values = operator.itemgetter(*NAMES)


def judge(pipeline: Any, lines: list[bytes]) -> bytes:
    """Return the replies to some lines. Raises ValueError for what is no JSON."""
    objects = json.loads(b"[" + b",".join(lines) + b"]")
    matrix = np.array([_values(one) for one in objects], float)
    verdicts = pipeline.predict_proba(matrix)[:, 1] > 0.5
    replies = zip(objects, verdicts.tolist(), strict=True)
    return "".join(
        [f'{{"seq": {one["seq"]}, "verdict": {verdict:d}}}\n' for one, verdict in replies]
    ).encode()


def main(arguments: list[str]) -> None:
    """Be the process: serve one gateway after the other."""
    pipeline = fitted()
    with socket.create_server((arguments[0], int(arguments[1]))) as server:
        print("ready", flush=True)
        while True:
            link, _ = server.accept()
            with link:
                _serve(link, pipeline)


def _serve(link: socket.socket, pipeline: Any) -> None:
    rest = b""
    while True:
        try:
            got = link.recv(MAX_READ)
            *lines, rest = (rest + got).split(b"\n")
            if lines:
                link.sendall(judge(pipeline, lines))
        except OSError:
            return  # the gateway was ended in the middle of something
        if not got:
            return


if __name__ == "__main__":
    main(sys.argv[1:])
