"""Two gateways, a node, devices and an attacker, joined by cables; a controller that knows them.

    controller --+-- gw1 --- iot1        generator is cabled to lan0 of both gateways,
                 +-- gw2 --- iot2        a device to iot0 of each; gateways route.
                 +-- node1

gw1, gw2 and node1 are booted systems, the others are namespaces. Only the controller's network
joins the hosts, and none of it leads out of this machine.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ids_appliance.lab.namespaces import Network
from tests.ansible.machine import Machine, machines
from tests.ansible.trees import ROOT, tree

PLAYBOOKS = ROOT / "ansible"
ROLE = PLAYBOOKS / "roles" / "appliance"
CACHE = ROOT / "build" / "deploy"
HOSTS = {"gw1": "10.90.0.1", "gw2": "10.90.0.2", "node1": "10.90.0.10"}
CONTROLLER = "10.90.0.254"
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
"""The Python of a suite; where it is not the controller's, our wheel is built on the host."""
ATTACKER = {"gw1": "10.91.0.66", "gw2": "10.93.0.66"}
DEVICE = {"gw1": "10.92.0.2", "gw2": "10.94.0.2"}
MAX_RUN_S = 1800


@dataclass(frozen=True, slots=True)
class Run:
    """What a playbook has done."""

    code: int
    seconds: float
    text: str
    stats: dict[str, dict[str, int]]

    def total(self, what: str) -> int:
        """Return the sum over all hosts: changed, failures, unreachable, ok."""
        return sum(host[what] for host in self.stats.values())

    def good(self) -> bool:
        """Return whether nothing failed anywhere."""
        return self.code == 0 and not self.total("failures") and not self.total("unreachable")


class Bed:
    """The whole of it, as tests use it."""

    def __init__(self, network: Network, hosts: dict[str, Machine], place: Path) -> None:
        self.network = network
        self.hosts = hosts
        self.place = place
        self.inventory = place / "inventory" / "hosts.yml"
        self.password = place / "vault-password"

    def play(self, playbook: str, *words: str, **variables: Any) -> Run:
        """Run a playbook from the controller's namespace."""
        start = time.monotonic()
        with self.begin(playbook, *words, **variables) as begun:
            try:
                text, _ = begun.communicate(timeout=MAX_RUN_S)
            except BaseException:
                begun.kill()
                raise
        run = Run(begun.returncode, time.monotonic() - start, text, recap(text))
        with (self.place / "ansible.log").open("a") as log:
            log.write(f"\n===== {playbook} {words} {variables}: {run.seconds:.0f} s\n{text}")
        return run

    def begin(self, playbook: str, *words: str, **variables: Any) -> subprocess.Popen[str]:
        """Begin with a playbook."""
        command = [
            *(sys.executable, "-m", "ansible", "playbook", str(PLAYBOOKS / playbook)),
            *("--inventory", str(self.inventory), f"--vault-password-file={self.password}"),
            *("--extra-vars", json.dumps(variables), *words),
        ]
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(PLAYBOOKS / "ansible.cfg"),
            "ANSIBLE_LOCAL_TEMP": str(self.place / "local"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.place / "cp"),
            # Not in the home that is compared: what Ansible itself leaves is not of the roles.
            "ANSIBLE_REMOTE_TEMP": "/var/tmp/ansible-bed",
            "ANSIBLE_HOST_KEY_CHECKING": "false",
            "ANSIBLE_FORCE_COLOR": "false",
            "ANSIBLE_NOCOLOR": "true",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
        }
        return subprocess.Popen(
            self.network.command("ctl", *command),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )

    def site(self, *words: str, **variables: Any) -> Run:
        """Run the whole deployment."""
        return self.play("site.yml", *words, **variables)

    def ids(self, host: str, *words: str) -> Any:
        """Ask our program on a host for JSON."""
        said = self.hosts[host].say("/usr/local/bin/ids-appliance", *words, "--format", "json")
        return json.loads(said)

    def reaches(self, host: str) -> bool:
        """Return whether the attacker gets an answer from the device behind a gateway."""
        words = ("ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", DEVICE[host])
        done = subprocess.run(self.network.command("gen", *words), capture_output=True, check=False)
        return done.returncode == 0

    def mac_of_attacker(self, host: str) -> str:
        """Return the MAC with which the attacker is seen at a gateway."""
        words = ("cat", f"/sys/class/net/to-{host}/address")
        done = subprocess.run(self.network.command("gen", *words), capture_output=True, check=True)
        return done.stdout.decode().strip()

    def received(self, host: str) -> int:
        """Return how many packets the device behind a gateway has received so far."""
        name = host.replace("gw", "iot")
        words = ("cat", "/sys/class/net/eth0/statistics/rx_packets")
        done = subprocess.run(self.network.command(name, *words), capture_output=True, check=True)
        return int(done.stdout)

    @contextlib.contextmanager
    def knocking(self, host: str) -> Iterator[list[str]]:
        """Let the attacker ask the device for answers all the time, five times a second; what ping
        has to say about it is in the list afterwards."""
        said: list[str] = []
        words = ("ping", "-n", "-q", "-i", "0.2", DEVICE[host])
        with subprocess.Popen(
            self.network.command("gen", *words), stdout=subprocess.PIPE, text=True
        ) as ping:
            try:
                yield said
            finally:
                ping.send_signal(signal.SIGINT)
                said += ping.communicate()[0].splitlines()

    def attack(self, host: str) -> None:
        """Let the generator flood the device behind a gateway with SYNs: 6,000 in three seconds."""
        words = ("hping3", "-q", "-S", "-p", "80", "-i", "u500", "-c", "6000", DEVICE[host])
        subprocess.run(
            self.network.command("gen", *words), capture_output=True, timeout=60, check=False
        )


def recap(text: str) -> dict[str, dict[str, int]]:
    """Return the numbers of a run's last lines."""
    found = {}
    for line in text.partition("PLAY RECAP")[2].splitlines():
        if host := re.match(r"(\S+)\s+:\s+(.*)", line):
            pairs = (pair.split("=") for pair in host[2].split())
            counts = {name: int(value) for name, value in pairs}
            counts["failures"] = counts.pop("failed", 0)
            found[host[1]] = counts
    return found


@contextlib.contextmanager
def bed(place: Path, suites: dict[str, str]) -> Iterator[Bed]:
    """Make everything, and take it away again. `suites`: host -> name of its Debian."""
    trees = {suite: tree(suite) for suite in sorted(set(suites.values()))}
    prepare_wheels(pythons=sorted({PYTHONS[suite] for suite in suites.values()}))
    prepare_wheels(extras="notices")
    prepare_wheels(extras="notices,gateway")
    with Network("d", "sw", "ctl", "gw1", "gw2", "node1", "gen", "iot1", "iot2") as network:
        cable(network)
        booted = [
            Machine(name, trees[suites[name]], namespace=network.full(name), scratch=place)
            for name in HOSTS
        ]
        with machines(*booted) as hosts:
            made = Bed(network, hosts, place)
            let_in(made)
            made.inventory.parent.mkdir()
            known = inventory(place)
            known["all"]["children"] |= ends(made)
            made.inventory.write_text(yaml.safe_dump(known), encoding="utf-8")
            made.password.write_text("only for the test bed\n")
            yield made


def prepare_wheels(
    source: Path = ROOT, *, extras: str = "", pythons: Sequence[str] = ("3.11",)
) -> None:
    """Build and fetch what the controller will hand out: its namespace has no way to an index."""
    for python in pythons:
        subprocess.run(
            [sys.executable, str(ROLE / "files" / "wheelhouse.py"), f"--source={source}"]
            + [f"--cache={CACHE}", f"--constraints={ROLE}/files/constraints/{python}.txt"]
            + [f"--python={python}", f"--machine={os.uname().machine}", f"--extras={extras}"],
            check=True,
        )


def cable(network: Network) -> None:
    """Lay the cables and give addresses."""
    network.ip("sw", "link add br0 type bridge", "link set br0 up")
    for name, address in {"ctl": CONTROLLER, **HOSTS}.items():
        network.veth(("sw", f"to-{name}"), (name, "mgmt0"))
        network.ip("sw", f"link set to-{name} master br0")
        network.ip(name, f"addr add {address}/24 dev mgmt0")
    for gateway, lan, iot in (("gw1", "10.91.0", "10.92.0"), ("gw2", "10.93.0", "10.94.0")):
        device = gateway.replace("gw", "iot")
        network.veth((gateway, "lan0"), ("gen", f"to-{gateway}"))
        network.veth((gateway, "iot0"), (device, "eth0"))
        network.ip(gateway, f"addr add {lan}.1/24 dev lan0", f"addr add {iot}.1/24 dev iot0")
        network.ip(device, f"addr add {iot}.2/24 dev eth0", f"route add default via {iot}.1")
        network.ip("gen", f"addr add {lan}.66/24 dev to-{gateway}")
        network.ip("gen", f"route add {iot}.0/24 via {lan}.1")


def let_in(made: Bed) -> None:
    """Give the controller a key that the hosts know."""
    key = made.place / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    for host in made.hosts.values():
        # Else systemd starts and stops a manager of root's for each login, and a login meanwhile
        # waits for it, on a busy machine longer than ssh does.
        host.say("loginctl", "enable-linger", "root")
        folder = host.root / "root/.ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "authorized_keys").write_bytes(key.with_suffix(".pub").read_bytes())


def ends(made: Bed) -> dict[str, Any]:
    """Return the benchmark's two ends: namespaces, in which a daemon is started for each login on
    the login's own connection, so that no port is opened anywhere."""
    place = made.place
    Path("/run/sshd").mkdir(exist_ok=True)
    key = place / "host-key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    (place / "sshd_config").write_text(
        f"HostKey {key}\nAuthorizedKeysFile {place}/key.pub\nStrictModes no\nUsePAM no\n"
        "PermitRootLogin yes\nSetEnv PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
    )

    def end(name: str, interface: str, address: str) -> dict[str, Any]:
        words = made.network.command(name, "/usr/sbin/sshd", "-i", "-f", f"{place}/sshd_config")
        return {
            "ansible_host": name,
            "bench_address": address,
            "bench_interface": interface,
            "ansible_ssh_common_args": "-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
            f"-o StrictHostKeyChecking=no -o ProxyCommand='{' '.join(words)}'",
        }

    return {
        "generators": {"hosts": {"gen": end("gen", "to-gw1", ATTACKER["gw1"])}},
        "sinks": {"hosts": {"iot1": end("iot1", "eth0", DEVICE["gw1"])}},
    }


def inventory(place: Path) -> dict[str, Any]:
    """Return what the controller knows of the hosts."""
    gateways = {
        name: {
            "ansible_host": HOSTS[name],
            "gateway_interfaces": ["lan0", "iot0"],
            "gateway_forward": True,
            "gateway_shaping_mbit": {"lan0": 900},
            "gateway_settings": {"window": {"window_s": 5}},
        }
        for name in ("gw1", "gw2")
    }
    return {
        "all": {
            "vars": {
                "ansible_user": "root",
                "ansible_ssh_private_key_file": str(place / "key"),
                "ansible_ssh_common_args": "-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
                "-o StrictHostKeyChecking=no",
                "ansible_python_interpreter": "/usr/bin/python3",
                "appliance_controller_python": sys.executable,
                "appliance_cache": str(CACHE),
                # The lists came with the tree, and there is no mirror to ask.
                "appliance_lists_age_s": 10**9,
                "tls_tool": str(Path(sys.executable).with_name("ids-appliance")),
                "bench_tool": str(Path(sys.executable).with_name("ids-appliance")),
            },
            "children": {
                "gateways": {"hosts": gateways},
                "classifiers": {"hosts": {"node1": {"ansible_host": HOSTS["node1"]}}},
                "monitors": {"hosts": {}},
            },
        }
    }
