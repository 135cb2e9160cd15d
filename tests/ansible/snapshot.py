"""A booted system in, everything that a deployment may change there as lines of text out."""

import difflib
import subprocess

from tests.ansible.machine import Machine

LEFT_OUT = (
    # Backups that useradd and groupadd make at each call (passwd(5), FILES of useradd(8)).
    *("/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-"),
    # Made anew by ldconfig(8) whenever a library comes or goes; its order is not fixed.
    "/etc/ld.so.cache",
)

LOOK = r"""
import glob, hashlib, os, subprocess, sys
left_out = set(sys.argv[1:])

def said(title, *words, without=()):
    done = subprocess.run(words, capture_output=True, text=True)
    for line in sorted(done.stdout.splitlines()):
        if not line.startswith(without):
            print(title, line)

def tree(top, depth):
    for where, folders, files in os.walk(top):
        if where.count("/") - top.count("/") >= depth:
            folders[:] = []
        for name in sorted(folders + files):
            path = os.path.join(where, name)
            if path in left_out:
                continue
            kind = os.lstat(path)
            content = ""
            if os.path.islink(path):
                content = os.readlink(path)
            elif os.path.isfile(path) and depth > 9:
                content = hashlib.sha256(open(path, "rb").read()).hexdigest()
            print("file", path, oct(kind.st_mode), kind.st_uid, kind.st_gid, content)

tree("/etc", 99)
for top in ("/opt", "/usr/local", "/var/lib", "/root", "/home", "/srv"):
    tree(top, 1)
for path in glob.glob("/run/ids*"):
    print("file", path)
said("package", "dpkg-query", "--show", "--showformat",
     "${Package} ${Version} ${db:Status-Abbrev}\n")
said("manual", "apt-mark", "showmanual")
# Of whoever has logged in to look.
login = ("user@", "user-runtime-dir@", "session-")
said("unit", "systemctl", "list-unit-files", "--no-legend", "--no-pager", without=login)
said("running", "systemctl", "list-units", "--no-legend", "--plain", "--no-pager",
     "--type=service,timer", "--state=active,failed", without=login)
said("qdisc", "tc", "qdisc", "show")
# The kernel's own counters and keys.
own = ("nf_conntrack_count", "stable_secret", "nf_conntrack_buckets")
for path in sorted(glob.glob("/proc/sys/net/**", recursive=True)):
    if os.path.isfile(path) and not path.endswith(own):
        try:
            print("sysctl", path, " ".join(open(path).read().split()))
        except OSError:
            pass
"""


def snapshot(machine: Machine) -> list[str]:
    """Return its state, a line each."""
    done = machine.run("python3", "-", *LEFT_OUT, text=LOOK)
    assert done.returncode == 0, done.stderr
    # The host need not have the tool before the first run.
    rules = subprocess.run(
        ["ip", "netns", "exec", machine.namespace, "nft", "list", "ruleset"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [f"rules {line}" for line in rules.stdout.splitlines()]
    return sorted(done.stdout.splitlines()) + lines


def difference(before: list[str], after: list[str]) -> list[str]:
    """Return the lines that went and came."""
    lines = difflib.unified_diff(before, after, "before", "after", n=0, lineterm="")
    return [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
