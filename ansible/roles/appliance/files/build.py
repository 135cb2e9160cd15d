#!/usr/bin/env python3
"""A directory with sources and the build's wheels in, a wheel of each source beside them out.

Runs on the target, without the network, where the controller could not build for it. Prints the
paths of the new wheels.
usage: build.py DIRECTORY [ARCHIVE...]
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ARCHIVE = "ids-appliance-src.tar.gz"


def main() -> None:
    """Build in a scratch environment that is removed again."""
    house = Path(sys.argv[1])
    before = set(house.glob("*.whl"))
    # Beside the wheels, not in /tmp: that may be small or mounted noexec.
    with tempfile.TemporaryDirectory(dir=house) as scratch:
        subprocess.run([sys.executable, "-m", "venv", f"{scratch}/venv"], check=True)
        pip = f"{scratch}/venv/bin/pip"
        offline = ["--quiet", "--disable-pip-version-check", "--no-index", f"--find-links={house}"]
        # What pip would keep in somebody's home nobody would remove.
        offline.append("--no-cache-dir")
        # A new environment of Debian 12 has a setuptools that is too old for our pyproject.toml.
        subprocess.run([pip, "install", "--upgrade", *offline, "setuptools", "Cython"], check=True)
        for archive in sys.argv[2:] or [ARCHIVE]:
            source = Path(scratch, archive)
            source.mkdir()
            words = ["tar", "-xzf", str(house / archive), "-C", str(source), "--strip-components=1"]
            subprocess.run(words, check=True)
            subprocess.run(
                [pip, "wheel", *offline, "--no-deps", "--no-build-isolation"]
                + [f"--wheel-dir={house}", str(source)],
                check=True,
            )
    print(*sorted(set(house.glob("*.whl")) - before), sep="\n")


if __name__ == "__main__":
    main()
