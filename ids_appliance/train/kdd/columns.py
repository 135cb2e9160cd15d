"""The 41 columns of a KDD Cup 1999 record, and which of them a gateway can know, and when.

A record is a connection, not a packet. Columns and groups as in Stolfo et al., Cost-based Modeling
for Fraud and Intrusion Detection, DISCEX 2000; the attacks' categories as the contest named them.
"""

from enum import StrEnum
from typing import Final


class Known(StrEnum):
    """When somebody who sees every packet of a connection, and nothing else, knows a column."""

    FIRST = "at the first packet"
    EARLIER = "at the first packet, from counters of earlier connections"
    END = "when the connection has ended"
    NEVER = "never: read from what a user typed, in the clear, or from the host's own log"


COLUMNS: Final[dict[str, Known]] = {
    "duration": Known.END,
    "protocol_type": Known.FIRST,
    "service": Known.FIRST,
    "flag": Known.END,
    "src_bytes": Known.END,
    "dst_bytes": Known.END,
    "land": Known.FIRST,
    "wrong_fragment": Known.END,
    "urgent": Known.END,
    **dict.fromkeys(
        (
            "hot",
            "num_failed_logins",
            "logged_in",
            "num_compromised",
            "root_shell",
            "su_attempted",
            "num_root",
            "num_file_creations",
            "num_shells",
            "num_access_files",
            "num_outbound_cmds",
            "is_host_login",
            "is_guest_login",
        ),
        Known.NEVER,
    ),
    **dict.fromkeys(
        (
            "count",
            "srv_count",
            "serror_rate",
            "srv_serror_rate",
            "rerror_rate",
            "srv_rerror_rate",
            "same_srv_rate",
            "diff_srv_rate",
            "srv_diff_host_rate",
            "dst_host_count",
            "dst_host_srv_count",
            "dst_host_same_srv_rate",
            "dst_host_diff_srv_rate",
            "dst_host_same_src_port_rate",
            "dst_host_srv_diff_host_rate",
            "dst_host_serror_rate",
            "dst_host_srv_serror_rate",
            "dst_host_rerror_rate",
            "dst_host_srv_rerror_rate",
        ),
        Known.EARLIER,
    ),
}
"""In the order in which they stand in a record; after them the label, in NSL-KDD a difficulty."""

NAMES: Final = tuple(COLUMNS)
SYMBOLIC: Final = tuple(NAMES.index(name) for name in ("protocol_type", "service", "flag"))
NUMERIC: Final = tuple(i for i in range(len(NAMES)) if i not in SYMBOLIC)

CHOICES: Final[dict[str, tuple[int, ...]]] = {
    "all": tuple(range(len(NAMES))),
    "gateway": tuple(i for i, name in enumerate(NAMES) if COLUMNS[name] is not Known.NEVER),
    "at once": tuple(
        i for i, name in enumerate(NAMES) if COLUMNS[name] in (Known.FIRST, Known.EARLIER)
    ),
}
"""Sets of columns that are judged on: all; those a gateway can know; those it knows in time."""

CATEGORIES: Final[dict[str, str]] = {
    name: category
    for category, names in {
        "normal": "normal",
        "dos": "back land neptune pod smurf teardrop apache2 mailbomb processtable udpstorm worm",
        "probe": "ipsweep nmap portsweep satan mscan saint",
        "r2l": "ftp_write guess_passwd imap multihop phf spy warezclient warezmaster httptunnel "
        "named sendmail snmpgetattack snmpguess xlock xsnoop",
        "u2r": "buffer_overflow loadmodule perl rootkit ps sqlattack xterm",
    }.items()
    for name in names.split()
}
"""Label without its dot -> category; labels of neither contest are "other"."""
