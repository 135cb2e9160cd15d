"""Open vSwitch's database in, one picture of it out; lists of changes in, one transaction each.

Only rows with our mark in external_ids are ever changed (ovs-vsctl(8), ovs-vswitchd.conf.db(5)).
"""

import socket
import struct
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ids_appliance.errors import MonitorError, SwitchDown
from ids_appliance.monitor import commands
from ids_appliance.monitor.links import MARK

TIMEOUT_S: Final = 20
_COLUMNS: Final = {
    "Bridge": "_uuid,name,datapath_type,datapath_id,protocols,fail_mode,external_ids,other_config,"
    "ports,mirrors,controller",
    "Port": "_uuid,name,tag,interfaces,external_ids",
    "Interface": "_uuid,name,type,ofport,error,ifindex,admin_state,link_state,statistics",
    "Mirror": "_uuid,name,select_src_port,select_dst_port,select_all,select_vlan,output_port,"
    "statistics,external_ids",
    "Controller": "_uuid,target,is_connected,status,connection_mode",
}


class BridgeRow(msgspec.Struct, frozen=True):
    """A row of Bridge; references are ids of rows."""

    id: str
    name: str
    datapath_type: str
    datapath_id: str
    protocols: tuple[str, ...]
    fail_mode: str
    external_ids: dict[str, str]
    other_config: dict[str, str]
    ports: tuple[str, ...]
    mirrors: tuple[str, ...]
    controller: tuple[str, ...]


class PortRow(msgspec.Struct, frozen=True):
    """A row of Port."""

    id: str
    name: str
    tag: tuple[int, ...]
    interfaces: tuple[str, ...]
    external_ids: dict[str, str]


class InterfaceRow(msgspec.Struct, frozen=True):
    """A row of Interface."""

    id: str
    name: str
    type: str
    ofport: int
    error: str
    ifindex: int
    admin_state: str
    link_state: str
    statistics: dict[str, int]


class MirrorRow(msgspec.Struct, frozen=True):
    """A row of Mirror."""

    id: str
    name: str
    select_src_port: tuple[str, ...]
    select_dst_port: tuple[str, ...]
    select_all: bool
    select_vlan: tuple[int, ...]
    output_port: str
    statistics: dict[str, int]
    external_ids: dict[str, str]


class ControllerRow(msgspec.Struct, frozen=True):
    """A row of Controller."""

    id: str
    target: str
    is_connected: bool
    status: dict[str, str]
    connection_mode: str


class Picture(msgspec.Struct, frozen=True):
    """The database at one moment; every table by id of row."""

    bridges: dict[str, BridgeRow] = {}
    ports: dict[str, PortRow] = {}
    interfaces: dict[str, InterfaceRow] = {}
    mirrors: dict[str, MirrorRow] = {}
    controllers: dict[str, ControllerRow] = {}

    def bridge(self, name: str) -> BridgeRow | None:
        """Return a bridge by its name."""
        return next((row for row in self.bridges.values() if row.name == name), None)

    def port(self, name: str) -> PortRow | None:
        """Return a port by its name, in whatever bridge."""
        return next((row for row in self.ports.values() if row.name == name), None)

    def interface(self, name: str) -> InterfaceRow | None:
        """Return an interface by its name."""
        return next((row for row in self.interfaces.values() if row.name == name), None)

    def bridge_of(self, port: PortRow) -> BridgeRow | None:
        """Return the bridge that has a port."""
        return next((row for row in self.bridges.values() if port.id in row.ports), None)

    def names(self, ids: Sequence[str]) -> set[str]:
        """Return the names of ports."""
        return {self.ports[one].name for one in ids if one in self.ports}


class Switch:
    """The Open vSwitch whose sockets are in a directory ("": $OVS_RUNDIR, or the system's)."""

    def __init__(self, run_dir: str = "") -> None:
        self.env = {"OVS_RUNDIR": run_dir} if run_dir else {}

    def vsctl(self, *words: str) -> str:
        """Ask or change the database, in one transaction. Raises MonitorError, SwitchDown."""
        try:
            return commands.run("ovs-vsctl", f"--timeout={TIMEOUT_S}", *words, env=self.env)
        except MonitorError as error:
            if "database connection failed" in str(error):
                raise _down("its database does not answer") from error
            said = str(error).rpartition("ovs-vsctl: ")[2]
            raise MonitorError(f"Open vSwitch refused a change: {said}") from error

    def require(self) -> None:
        """Raise SwitchDown where the database or the switch does not answer."""
        self.vsctl("--no-wait", "show")
        try:
            commands.run("ovs-appctl", "--timeout=5", "version", env=self.env)
        except MonitorError as error:
            raise _down("its database runs, but ovs-vswitchd does not") from error

    def settled(self) -> None:
        """Let the datapath forget its flows: the next frames make them anew.

        Open vSwitch 3.1 goes on copying by the former selection after a mirror has changed, as
        long as the same flow goes on (ovs-vswitchd(8), revalidator/purge).
        """
        commands.run("ovs-appctl", "--timeout=20", "revalidator/purge", env=self.env)

    def picture(self) -> Picture:
        """Return what is in the database now. Raises MonitorError, SwitchDown."""
        words = ["--format=json"]
        for table, columns in _COLUMNS.items():
            words += ["--", f"--columns={columns}", "list", table]
        lines = self.vsctl(*words).splitlines()
        tables = {}
        for line, (table, columns) in zip(lines, _COLUMNS.items(), strict=True):
            headings = columns.split(",")
            rows = [dict(zip(headings, row, strict=True)) for row in _data(line, headings)]
            tables[f"{table.lower()}s"] = {row["_uuid"][1]: _plain(table, row) for row in rows}
        try:
            return msgspec.convert(tables, Picture)
        except msgspec.ValidationError as error:
            raise MonitorError(f"ovs-vsctl printed what we do not know: {error}") from error

    def aggregate(self, bridge: str, version: str) -> dict[str, int]:
        """Return how many flow entries a bridge has, with their packets and bytes."""
        words = ("ovs-ofctl", "--timeout=5", "-O", version, "dump-aggregate", bridge)
        printed = commands.run(*words, env=self.env)
        pairs = (word.partition("=") for word in printed.split() if "_count=" in word)
        return {key: int(value) for key, _, value in pairs if value.isdigit()}


_SETS: Final = {
    "Bridge": ("protocols", "ports", "mirrors", "controller"),
    "Port": ("tag", "interfaces"),
    "Mirror": ("select_src_port", "select_dst_port", "select_vlan"),
}
_NUMBERS: Final = {"ofport": 0, "ifindex": 0}


def _data(line: str, headings: list[str]) -> list[list[Any]]:
    table = msgspec.json.decode(line)
    order = [table["headings"].index(one) for one in headings]
    return [[row[at] for at in order] for row in table["data"]]


def _plain(table: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with OVSDB's sets, maps and ids (RFC 7047 section 5.1) as plain values."""
    plain: dict[str, Any] = {"id": row["_uuid"][1]}
    for column, value in row.items():
        kind = value[0] if isinstance(value, list) else ""
        if kind == "map":
            plain[column] = dict(value[1])
            continue
        values = value[1] if kind == "set" else [value]
        values = [one[1] if isinstance(one, list) else one for one in values]
        if column in _SETS.get(table, ()):
            plain[column] = values
        else:
            plain[column] = values[0] if values else _NUMBERS.get(column, "")
    return plain


def _down(why: str) -> SwitchDown:
    return SwitchDown(
        f"Open vSwitch is not running ({why}): systemctl start openvswitch-switch, "
        "or give ovs_run_dir where its sockets are"
    )


def marked(name: str) -> str:
    """Return the words that put our mark on a row."""
    return f"external_ids:{MARK}={name}"


def is_marked(row: BridgeRow | PortRow | MirrorRow, name: str) -> bool:
    """Return whether a row belongs to the monitor of that name."""
    return row.external_ids.get(MARK) == name


def kernel_datapath() -> bool:
    """Return whether this kernel has Open vSwitch's datapath; loads its module where it can.

    CTRL_CMD_GETFAMILY for ovs_datapath (linux/genetlink.h): the kernel loads the module by itself.
    """
    name = b"ovs_datapath\0"
    attribute = struct.pack("=HH", 4 + len(name), 2) + name  # CTRL_ATTR_FAMILY_NAME
    attribute += b"\0" * (-len(attribute) % 4)
    body = struct.pack("=BBH", 3, 1, 0) + attribute  # CTRL_CMD_GETFAMILY
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16) as asked:  # NETLINK_GENERIC
        asked.settimeout(5)
        asked.sendto(struct.pack("=IHHII", 16 + len(body), 16, 1, 1, 0) + body, (0, 0))
        answer = asked.recv(4096)
    (kind,) = struct.unpack_from("=H", answer, 4)
    return bool(kind != 2)  # NLMSG_ERROR
