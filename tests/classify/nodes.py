"""Real nodes for tests: the `classifier` command in a process of its own, on a loopback port."""

import os
import signal
import subprocess
import sys
import time

import numpy as np

from ids_appliance._cells import CellTable
from ids_appliance.types import CellRequest

START = "from ids_appliance.cli import main; main()"


class NodeProcess:
    """A node that was started; `address` is where it listens."""

    def __init__(self, model, log, *, listen="127.0.0.1:0", options=("--plaintext",)):
        self._log = log
        command = [sys.executable, "-c", START, "classifier", "--listen", listen]
        with open(log, "wb") as errors:
            self.process = subprocess.Popen(
                [*command, "--model", str(model), *map(str, options)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.line = self.process.stdout.readline().strip()
        assert self.line.startswith("listening on "), self.log()
        host, _, port = self.line.split()[2].rstrip(",").rpartition(":")
        self.address = (host.strip("[]"), int(port))

    def log(self):
        return self._log.read_text()

    def wait_for(self, text, *, timeout_s=60.0):
        """Wait until the log holds a text."""
        until = time.monotonic() + timeout_s
        while text not in self.log():
            assert time.monotonic() < until, f"no {text!r} in:\n{self.log()}"
            time.sleep(0.01)

    def signal(self, number):
        self.process.send_signal(number)

    def hang(self):
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """End it in good order; return the exit code."""
        self.process.terminate()
        return self.process.wait(60)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def make_request(seq, bundle, rows):
    """Return a request for packet records, with the cells that `bundle` makes of them."""
    grid = bundle.grid
    cells = CellTable(grid.model_id, grid.features, grid.cuts).encode(rows)
    return CellRequest(seq, grid.model_id, cells, rows)


def reference(bundle, rows):
    """Return the exact probabilities of packet records."""
    out = np.empty(len(rows))
    bundle.forest.evaluate_rows(rows, out)
    return out


def collect(classifier, n, *, timeout_s=60.0):
    """Return the next n answers by sequence number; fails if they do not come, or come twice."""
    answers = {}
    until = time.monotonic() + timeout_s
    while len(answers) < n:
        assert time.monotonic() < until, f"{len(answers)} of {n} answers after {timeout_s} s"
        for answer in classifier.answers(0.05):
            assert answer.seq not in answers
            answers[answer.seq] = answer
    return answers
