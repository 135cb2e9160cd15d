#!/usr/bin/env python3
"""A directory with our source and the build's wheels in, our own wheel beside them out.

Runs on the target, without the network, where the controller could not build for it. The last line
printed is the wheel's path.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ARCHIVE = "ids-appliance-src.tar.gz"


def main() -> None:
    """Build in a scratch environment that is removed again."""
    house = Path(sys.argv[1])
    # Beside the wheels, not in /tmp: that may be small or mounted noexec.
    with tempfile.TemporaryDirectory(dir=house) as scratch:
        subprocess.run([sys.executable, "-m", "venv", f"{scratch}/venv"], check=True)
        pip = f"{scratch}/venv/bin/pip"
        offline = ["--quiet", "--disable-pip-version-check", "--no-index", f"--find-links={house}"]
        # A new environment of Debian 12 has a setuptools that is too old for our pyproject.toml.
        subprocess.run([pip, "install", "--upgrade", *offline, "setuptools", "Cython"], check=True)
        subprocess.run(["tar", "-xzf", str(house / ARCHIVE), "-C", scratch], check=True)
        subprocess.run(
            [pip, "wheel", *offline, "--no-deps", "--no-build-isolation", f"--wheel-dir={house}"]
            + [f"{scratch}/ids-appliance-src"],
            check=True,
        )
    print(*house.glob("ids_appliance-*.whl"), sep="\n")


if __name__ == "__main__":
    main()
