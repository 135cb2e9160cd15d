#!/usr/bin/env python3
"""A clone and a target's Python in, a directory with all wheels that the target needs out.

Runs on the controller. Our own wheel is built here if a Python of the target's version and
machine type is at hand; else the source goes along, with what building it there takes. So does what
others publish as source only. The result is kept by the source's digest, so a second host of the
same kind costs nothing. Prints JSON; `source` is what still has to be built on the host:

    {"release": "0.1.0-1a2b3c4d5e", "directory": "...", "source": ["ids-appliance-src.tar.gz"]}
"""

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

PARTS = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "ids_appliance", "ext")
LEFT_OUT = {".so", ".c", ".html", ".pyc"}
ARCHIVE = "ids-appliance-src.tar.gz"
SOURCE_ONLY = ("netfilterqueue",)
"""What nobody publishes wheels of: built on the host, where its library is."""
MANYLINUX = (
    "manylinux_2_28",
    "manylinux_2_27",
    "manylinux_2_24",
    "manylinux_2_17",
    "manylinux2014",
)
"""Debian 12 has glibc 2.36: all of these run there."""


def main() -> None:
    """Prepare the directory and print where it is."""
    arguments = parsed()
    source = Path(arguments.source)
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))
    digest = digest_of(source, Path(arguments.constraints))
    release = f"{project['project']['version']}-{digest[:10]}"
    cache = Path(arguments.cache).absolute()
    extras = "".join(f"+{name}" for name in arguments.extras.split(",") if name)
    house = cache / f"{release}-cp{arguments.python}-{arguments.machine}{extras}"
    answer = {"release": release, "directory": str(house), "source": []}
    if not os.environ.get("ANSIBLE_CHECK_MODE"):
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (house / "complete").exists():
                prepare(source, house, project, arguments)
            if not found(house):
                borrowed(house, to=house)
            answer["source"] = unbuilt(house)
    print(json.dumps(answer))


def parsed() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--source", required=True, help="the project's clone")
    parser.add_argument("--cache", required=True, help="where directories are kept")
    parser.add_argument("--constraints", required=True, help="versions to take")
    parser.add_argument("--python", required=True, help="the target's Python, as in 3.11")
    parser.add_argument("--extras", default="", help="extras of the package, as in monitor,plot")
    parser.add_argument("--machine", required=True, help="the target's machine type (uname -m)")
    return parser.parse_args()


def files_of(source: Path) -> Iterator[Path]:
    """Yield what the wheel is built from, in a fixed order."""
    for part in PARTS:
        path = source / part
        found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in found:
            if file.suffix not in LEFT_OUT and "__pycache__" not in file.parts:
                yield file


def digest_of(source: Path, constraints: Path) -> str:
    """Return a name for exactly this source with these versions."""
    digest = hashlib.sha256()
    for file in (*files_of(source), constraints):
        data = file.read_bytes()
        digest.update(f"{file.relative_to(source) if file != constraints else ''}".encode())
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def prepare(source: Path, house: Path, project: dict, arguments: argparse.Namespace) -> None:
    """Fill a new directory and give it its name when it is complete."""
    with tempfile.TemporaryDirectory(dir=house.parent) as scratch:
        new = Path(scratch, "house")
        copy = Path(scratch, "ids-appliance-src")
        new.mkdir()
        for file in files_of(source):
            target = copy / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
        needs = list(project["project"]["dependencies"])
        for extra in filter(None, arguments.extras.split(",")):
            needs += project["project"]["optional-dependencies"][extra]
        sources = [need for need in needs if name_of(need) in SOURCE_ONLY]
        needs = [need for need in needs if need not in sources]
        python = local_python(arguments)
        if borrowed(house, to=new):
            pass
        elif python:
            wheel(python, copy, new)
        else:
            with tarfile.open(new / ARCHIVE, "w:gz") as archive:
                archive.add(copy, "ids-appliance-src")
        fetch(sources, new, arguments)
        if unbuilt(new):
            shutil.copy2(Path(__file__).with_name("build.py"), new)
            needs += project["build-system"]["requires"]
        download(needs, new, arguments)
        (new / "complete").write_text(house.name + "\n", encoding="utf-8")
        shutil.rmtree(house, ignore_errors=True)
        new.rename(house)


def found(house: Path) -> list[Path]:
    """Return our own wheel, if it is there."""
    return list(house.glob("ids_appliance-*.whl"))


def name_of(need: str) -> str:
    """Return the name in a requirement or a file's name, as PyPI spells it."""
    return re.split(r"[^A-Za-z0-9_.-]|-\d", need.strip())[0].replace("_", "-").lower()


def unbuilt(house: Path) -> list[str]:
    """Return the archives of sources that there is no wheel of."""
    built = {name_of(path.name) for path in house.glob("*.whl")}
    ours = [ARCHIVE] if (house / ARCHIVE).exists() and not found(house) else []
    others = (path.name for path in sorted(house.glob("*.tar.gz")) if path.name != ARCHIVE)
    return ours + [name for name in others if name_of(name) not in built]


def borrowed(house: Path, *, to: Path) -> bool:
    """Take our own wheel from a directory of the same kind for other extras, if one has it."""
    kind = house.name.partition("+")[0]
    for other in sorted(house.parent.glob(f"{kind}*")):
        if other.name.partition("+")[0] == kind:
            for one in found(other):
                shutil.copy2(one, to)
                return True
    return False


def local_python(arguments: argparse.Namespace) -> str:
    """Return a Python here that builds for the target, or nothing."""
    if platform.machine() != arguments.machine or sys.platform != "linux":
        return ""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    return sys.executable if here == arguments.python else ""


def wheel(python: str, copy: Path, to: Path) -> None:
    """Build our own wheel in an isolated environment."""
    run(python, "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={to}", str(copy))


def download(needs: list[str], to: Path, arguments: argparse.Namespace) -> None:
    """Fetch the wheels of others, for the target's Python and machine type."""
    tags = [f"--platform={name}_{arguments.machine}" for name in MANYLINUX]
    tags += [f"--abi={abi}" for abi in (f"cp{arguments.python.replace('.', '')}", "abi3", "none")]
    run(
        *(sys.executable, "-m", "pip", "download", "--quiet", f"--dest={to}"),
        *("--only-binary=:all:", "--implementation=cp", f"--python-version={arguments.python}"),
        *(*tags, f"--constraint={arguments.constraints}", *needs),
    )


def fetch(needs: list[str], to: Path, arguments: argparse.Namespace) -> None:
    """Fetch what there are no wheels of, as its authors packed it."""
    for need in needs:
        run(
            *(sys.executable, "-m", "pip", "download", "--quiet", f"--dest={to}", "--no-deps"),
            *(f"--no-binary={name_of(need)}", f"--constraint={arguments.constraints}", need),
        )


def run(*words: str) -> None:
    """Run a command; end with what it said where it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        sys.exit(f"wheelhouse: {' '.join(words[1:4])} failed: {' / '.join(lines[-3:])}")


if __name__ == "__main__":
    main()
