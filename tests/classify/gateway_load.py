"""A gateway as a process that asks and measures, one request at a time.

    python -m tests.classify.gateway_load HOST PORT BUNDLE ROWS PAUSE_S

Prints `ready`, and `enough` after ENOUGH answers; runs until a line or the end of standard input,
then prints one line of JSON: wrong answers, and for each request when it was asked (s of the
monotonic clock) and what it took (s).
"""

import json
import sys
import threading
import time

from ids_appliance.classify.bundle import load_bundle
from ids_appliance.classify.remote import LinkOptions, RemoteClassifier
from ids_appliance.types import AnswerStatus, CellRequest
from tests.bundles import random_rows
from tests.classify.nodes import make_request, reference

ENOUGH = 60


def main():
    host, port, path, n, pause = sys.argv[1:]
    bundle = load_bundle(path)
    rows = random_rows(1, int(n))
    template = make_request(0, bundle, rows)
    want = reference(bundle, rows).tobytes()
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
    asked, latencies, wrong, seq = [], [], 0, 0
    options = LinkOptions(deadline_s=30.0, connect_timeout_s=30.0)
    with RemoteClassifier.connect([(host, int(port))], options) as link:
        print("ready", flush=True)
        while not stop.wait(float(pause)):
            seq += 1
            began = time.monotonic()
            assert link.submit(CellRequest(seq, template.model_id, template.cells, rows))
            while not (answers := link.answers(1.0)):
                pass
            latencies.append(time.monotonic() - began)
            asked.append(began)
            if seq == ENOUGH:
                print("enough", flush=True)
            (answer,) = answers
            wrong += (
                answer.status is not AnswerStatus.ANSWERED or answer.probabilities.tobytes() != want
            )
    print(json.dumps({"wrong": wrong, "asked": asked, "latencies": latencies}), flush=True)


if __name__ == "__main__":
    main()
