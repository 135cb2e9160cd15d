"""An interface in, how many of its packets were accepted out: the ceiling of who judges inline.

    python -m ids_appliance.bench.accepting INTERFACE ...

The rule, queue and binding of the gateway; it accepts every packet unseen. After `ready` it answers
every line on standard input by a JSON object.
"""

import json
import os
import select
import sys

import netfilterqueue

from ids_appliance.config.inline import Inline
from ids_appliance.enforce.queue_rule import QueueRule

LENGTH, RANGE, BUFFER_BYTES = 4096, 256, 8 << 20


def main(arguments: list[str]) -> None:
    """Be the process; ends with its standard input."""
    interface, number = arguments[0], Inline().queue
    accepted = 0

    def accept(packet: netfilterqueue.Packet) -> None:
        nonlocal accepted
        packet.accept()
        accepted += 1

    queue = netfilterqueue.NetfilterQueue()
    queue.bind(number, accept, max_len=LENGTH, range=RANGE, sock_len=BUFFER_BYTES)
    rule = QueueRule(number, max_clean=64)
    rule.install([interface])
    try:
        print("ready", flush=True)
        while True:
            ready = select.select([queue.get_fd(), 0], [], [])[0]
            if queue.get_fd() in ready:
                queue.run(block=False)
            if 0 in ready:
                if not os.read(0, 4096):
                    return
                print(json.dumps({"judged": accepted}), flush=True)
    finally:
        rule.remove()
        queue.unbind()


if __name__ == "__main__":
    main(sys.argv[1:])
