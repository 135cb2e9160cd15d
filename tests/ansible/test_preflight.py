"""Bad and contradictory variables: each named, with the variable, before anything is changed."""

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ids_appliance.classify.certificates import Authority
from tests.ansible.conftest import Play

GOOD = {"gateway_interfaces": ["lo"]}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "empty": ({"gateway_interfaces": []}, r"gateway_interfaces = \[\]"),
    "twice": ({"gateway_interfaces": ["lo", "lo"]}, "name each interface .* once"),
    "missing": ({"gateway_interfaces": ["nope0"]}, "nope0 .*gateway_interfaces.* is no interface"),
    "lonely": (GOOD | {"gateway_mode": "offloaded", "gateway_nodes": []}, "needs a node"),
    "both": (
        GOOD | {"gateway_plaintext": True, "gateway_settings": {"node": {"cert": "x"}}},
        "exclude each other",
    ),
    "said-twice": (GOOD | {"gateway_settings": {"model": "x"}}, "may not set model"),
    "no-network": (GOOD | {"gateway_administrators": ["home"]}, "home is no network"),
    "no-speed": (GOOD | {"gateway_shaping_mbit": {"lo": 0}}, r"gateway_shaping_mbit\.lo = 0"),
    "locked-out": (
        GOOD
        | {
            "gateway_firewall_input": "drop",
            "gateway_protect_live": False,
            "gateway_firewall_tcp": [53],
        },
        "nobody could log in",
    ),
    "wrong-type": (GOOD | {"gateway_watchdog_s": "soon"}, "gateway_watchdog_s"),
    "no-such-choice": (GOOD | {"gateway_mode": "both"}, "gateway_mode"),
    "notices-twice": (GOOD | {"gateway_settings": {"notices": {}}}, "may not set notices"),
    "inline-half": (
        GOOD | {"gateway_settings": {"inline": {"enabled": True}}},
        "without gateway_inline = true",
    ),
    "reader-elsewhere": (
        GOOD | {"gateway_inline": True, "gateway_settings": {"inline": {"reader": "package"}}},
        "set gateway_inline_reader",
    ),
    "no-such-reader": (GOOD | {"gateway_inline_reader": "fast"}, "gateway_inline_reader"),
    "secret-path": (GOOD | {"gateway_secrets": {"../x": "y"}}, "gateway_secrets: names of files"),
    "old-python": (GOOD | {"fake_python": "3.10"}, r"has Python 3\.10 .*3\.11"),
}


BENCH = {
    "test_role": "bench",
    "bench_generator": "good",
    "bench_sink": "both",
    "bench_gateway": "empty",
    "bench_node": "",
}
WRONG |= {
    "bench-nobody": (BENCH | {"bench_sink": ""}, "bench_sink = nobody: .* group `sinks`"),
    "bench-one": (BENCH | {"bench_sink": "good"}, "have to be three hosts"),
    "bench-no-port": (BENCH | {"bench_sink": "twice"}, "bench_interface is not set for twice"),
    "bench-no-node": (BENCH | {"bench_modes": ["offloaded"]}, r"bench_modes = .*offloaded needs"),
    "bench-twice": (BENCH | {"bench_arguments": ["--out=/x"]}, "bench_arguments may not have"),
    "bench-elsewhere": (BENCH, "both does not have 192.0.2.99 at lo"),
    "old-key": (
        {"test_role": "zeek", "gateway_settings": {"trigger": {"kind": "zeek"}}},
        "expired",
    ),
    "old-authority": ({"test_role": "tls"}, r"pki/ca\.crt: .*Certificate will expire.*another"),
    "no-mirror": (
        {"test_role": "mirrors", "appliance_packages": ["no-such"], "appliance_lists_age_s": 0},
        r"no package lists from http://127\.0\.0\.1:9/none/dists/stable/InRelease .*onnect",
    ),
}
ENDS = {
    # The benchmark's ends; the second says an address that is not its own.
    "good": {"bench_interface": "lo", "bench_address": "127.0.0.1"},
    "both": {"bench_interface": "lo", "bench_address": "192.0.2.99"},
}


def needs(*tools: str) -> None:
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def old_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A repository whose key has expired, as variables of the role."""
    needs("gpg")
    home = tmp_path_factory.mktemp("g")
    gpg = ["gpg", "--batch", "--homedir", str(home), "--passphrase", ""]
    made = ["--faked-system-time", "20200101T000000", "--quick-gen-key", "old", "ed25519", "sign"]
    subprocess.run([*gpg, *made, "1d"], check=True, capture_output=True)
    said = subprocess.run([*gpg, "--list-keys", "--with-colons"], check=True, capture_output=True)
    fingerprint = re.findall(r"fpr:+([0-9A-F]{40}):", said.stdout.decode())[0]
    (home / "web").mkdir()
    with (home / "web" / "Release.key").open("wb") as file:
        subprocess.run([*gpg, "--armor", "--export"], check=True, stdout=file)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    handler = partial(Quiet, directory=str(home / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        key = f"http://127.0.0.1:{server.server_port}/Release.key"
        yield {"zeek_repository_key": key, "zeek_key_fingerprint": fingerprint}
        server.shutdown()
        thread.join()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def old_authority(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An authority that has expired, as variables of the role."""
    needs("openssl")
    place = tmp_path_factory.mktemp("a") / "pki"
    Authority.create(place)
    key = ec.generate_private_key(ec.SECP256R1())
    name, then = x509.Name([]), datetime(2020, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, then, then)
    ended = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (place / "ca.crt").write_bytes(ended)
    return {"tls_authority": str(place), "tls_tool": sys.executable, "tls_plain_authority": "true"}


@pytest.fixture(scope="module")
def no_mirror(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An apt whose only mirror does not answer, as a variable of the playbook."""
    needs("apt-get", "dpkg-query")
    place = tmp_path_factory.mktemp("apt")
    (place / "sources.list").write_text("deb http://127.0.0.1:9/none stable main\n")
    (place / "lists").mkdir()
    (place / "apt.conf").write_text(
        f'Dir::Etc::SourceList "{place}/sources.list";\nDir::Etc::SourceParts "/dev/null";\n'
        f'Dir::State::Lists "{place}/lists";\nAcquire::http::Proxy "false";\n'
    )
    return {"test_apt": str(place / "apt.conf")}


@pytest.fixture(scope="module")
def said(
    play: Play,
    old_key: dict[str, str],
    old_authority: dict[str, str],
    no_mirror: dict[str, str],
) -> dict[str, str]:
    """What each host's preflight ends with; `good` is a host with nothing wrong."""
    hosts = {name: dict(variables) for name, (variables, _) in WRONG.items()} | {"good": GOOD}
    for name, more in {
        **ENDS,
        "old-key": old_key,
        "old-authority": old_authority,
        "no-mirror": no_mirror,
    }.items():
        hosts[name] = hosts[name] | more
    done = play("preflight.yml", hosts)
    # Of each failure the block from "[ERROR]" or "fatal:" on, joined into one line.
    found = dict.fromkeys(hosts, "")
    for host, text in re.findall(
        r"(?:fatal|failed): \[([\w-]+)(?: -> [\w-]+)?\][^\n]*?=>(.*?)"
        r"(?=\nfatal:|\nfailed:|\nok:|\nskipping:|\nTASK|\nPLAY|\n\[)",
        done.stdout,
        re.DOTALL,
    ):
        found[host] += " ".join(text.split())
    assert "PLAY RECAP" in done.stdout, done.stdout + done.stderr
    found["recap"] = done.stdout.partition("PLAY RECAP")[2]
    return found


@pytest.mark.parametrize("which", sorted(WRONG))
def test_wrong_variables_are_named(which: str, said: dict[str, str]) -> None:
    assert re.search(WRONG[which][1], said[which]), said[which] or "nothing was found wrong"


def test_good_ones_pass_and_nothing_is_changed(said: dict[str, str]) -> None:
    assert said["good"] == ""
    assert set(re.findall(r"changed=(\d+)", said["recap"])) == {"0"}
    assert "unreachable=1" not in said["recap"]
