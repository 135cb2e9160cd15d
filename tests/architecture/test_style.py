"""House rules that a machine can check; the reasons are in ARCHITECTURE.md and the README."""

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.sources import (
    EXT,
    PYTHON_FILES,
    ROOT,
    module_of,
    name,
    project_files,
    project_texts,
    tree,
)

NEWCOMERS_READING = ("ARCHITECTURE.md", "ids_appliance/pipeline.py", "ids_appliance/types.py")
NEWCOMERS_LINES = 1000
LONG = 400
LONG_FILES = {
    "ext/packet.pxd": "one packet's journey from link layer to record, all inlined into the loops",
    "ext/wire.pyx": "the whole codec, encode beside decode, as one state machine reads best",
    "ext/cells.pyx": "table, cache and batch loop share structs that must inline into each other",
    "ext/capfile.pyx": "pcap and pcapng readers over one bounded buffer",
    "ext/forest.pyx": "grid, trees and members of a model, checked and walked over the same arrays",
    "ext/evidence.pyx": "a sender's sums and a packet's weight on them, all inlined into the loop",
    "ids_appliance/types.py": "every word that stages exchange, in one place to look it up",
    "ext/screen.pyx": "the screen's whole face: set-up, one frame, and what may be asked of it",
    "ext/nfqueue.pyx": "a queue: set-up, packets in, words out, and what may be asked of it",
    "ext/ring.pyx": "ring set-up, block walk and counters share the mapped memory",
}
"""Files over the limit, each with why it is one thing."""

BANNED_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "base", "core"}


def test_what_a_newcomer_must_read_is_short() -> None:
    texts = [(ROOT / part).read_text(encoding="utf-8") for part in NEWCOMERS_READING]
    assert sum(len(text.splitlines()) for text in texts) < NEWCOMERS_LINES


def test_long_files_are_long_for_a_reason() -> None:
    # A test file is a list of cases and may be as long as there are cases.
    kinds = {".py", ".pyx", ".pxd", ".pyi", ".h"}
    lengths = {
        name(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in project_files()
        if path.suffix in kinds and not name(path).startswith("tests/")
    }
    too_long = {path for path, lines in lengths.items() if lines > LONG}
    assert too_long == set(LONG_FILES), "split it, or give the reason in LONG_FILES"


@pytest.mark.parametrize("path", PYTHON_FILES, ids=name)
def test_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree(path)), "a module starts with a sentence: what into what"
    assert path.stem not in BANNED_NAMES and path.parent.name not in BANNED_NAMES


def forbidden(source: ast.AST, module: str) -> list[str]:
    """Return what a module does that none of ours may do, by line."""
    found = []
    for node in ast.walk(source):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "BaseException"
            passed_on = any(isinstance(n, ast.Raise) and n.exc is None for n in ast.walk(node))
            if re.search(r"\b(Base)?Exception\b", caught) and not passed_on:
                found.append(f"{node.lineno}: catches {caught}")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            imported = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            if imported & {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "marshal"}:
                found.append(f"{node.lineno}: imports something that executes data")
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if called in {"time.time", "time.time_ns"} and ".cli" not in module:
                found.append(f"{node.lineno}: reads the wall clock")
            if called == "os.system" or keywords.get("shell") == "True":
                found.append(f"{node.lineno}: starts a shell")
            if keywords.get("allow_pickle") == "True":
                found.append(f"{node.lineno}: allows pickle")
    return found


@pytest.mark.parametrize("path", PYTHON_FILES, ids=name)
def test_nothing_forbidden(path: Path) -> None:
    assert forbidden(tree(path), module_of(path)) == []


@pytest.mark.parametrize(
    "line",
    [
        "try:\n    f()\nexcept Exception:\n    pass",
        "try:\n    f()\nexcept (OSError, Exception) as e:\n    print(e)",
        "try:\n    f()\nexcept:\n    pass",
        "import pickle",
        "from pickle import load",
        "import time\ntime.time()",
        "subprocess.run(line, shell=True)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_something_forbidden_is_found(line: str) -> None:
    assert forbidden(ast.parse(line), "ids_appliance.capture.file")


def test_what_is_passed_on_may_be_caught() -> None:
    line = "try:\n    f()\nexcept BaseException:\n    clean()\n    raise"
    assert forbidden(ast.parse(line), "ids_appliance.capture.file") == []


def test_no_directives_in_single_compiled_files() -> None:
    sources = [*EXT.glob("*.pyx"), *EXT.glob("*.pxd")]
    found = [name(p) for p in sources if re.search(r"^#\s*cython:", p.read_text("utf-8"), re.M)]
    assert found == [], "compiler directives stand in setup.py, once"


def test_nothing_is_left_open() -> None:
    words = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
    found = [name(path) for path, text in project_texts() if words.search(text)]
    assert found == []


ALLOWED_HOSTS = {"www.rfc-editor.org", "docs.kernel.org", "arxiv.org", "github.com"} | {
    "download.opensuse.org"
}
"""Hosts of citations for a reader, and of Zeek's packages, a default that a role's variable has;
nothing else of the project sends a machine anywhere."""

# Where the package is on a host that it is deployed to is its own choice, no path of this machine.
MACHINE_PATH = re.compile(
    r"(?<![\w.~$}])/(?!opt/ids-appliance\b)(?:wor[k]|roo[t]|hom[e]|User[s]|op[t])/[\w.]"
)

EVERYWHERE = {Path(text) for text in ("/", "/tmp", "/var/tmp", "/srv", "/usr/src")}


def registry_hosts() -> set[str]:
    """Return the hosts that this machine's own configuration installs from."""
    places = [*Path("/etc/apt").glob("sources.list*"), *Path("/etc/apt").glob("sources.list.d/*")]
    places += [Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf", Path.home() / ".npmrc"]
    text = "\n".join(p.read_text("utf-8", "replace") for p in places if p.is_file())
    return set(re.findall(r"https?://([\w.-]+\.\w+)", text))


def test_no_registries_and_no_machine_paths() -> None:
    hosts = registry_hosts() - ALLOWED_HOSTS
    # Whoever checks out below a directory that every machine has may still name that one.
    own = ROOT if ROOT.parent in EVERYWHERE else ROOT.parent
    checkout = f"{own}/"
    found = []
    for path, text in project_texts():
        for number, line in enumerate(text.splitlines(), 1):
            linked = set(re.findall(r"https?://([\w.-]+\.[a-z]+)", line))
            strange = {h for h in linked - ALLOWED_HOSTS if not h.endswith((".test", ".example"))}
            named = {host for host in hosts if host in line}
            if strange or named or MACHINE_PATH.search(line) or checkout in line:
                found.append(f"{name(path)}:{number}: {line.strip()[:100]}")
    assert found == []


@pytest.mark.parametrize(
    "text", ["see /" + "work/main/x", "cp x /" + "root/.cache", "'/" + "home/me'"]
)
def test_a_machine_path_is_found(text: str) -> None:
    assert MACHINE_PATH.search(text)
