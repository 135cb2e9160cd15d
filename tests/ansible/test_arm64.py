"""The wheel built and the unit tests run for arm64: a Debian tree under qemu-user, as on a host.

A Raspberry Pi's machine type without a Pi: shown is that the code is right there, not how fast.
What takes longest there is gcc. Where this machine has the same Debian, its cross compiler of the
same version stands in the tree for the emulated one; all else is the tree's own.
"""

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ansible.trees import QUIET, ROLES, ROOT, mounted, tree

pytestmark = pytest.mark.nightly
SUITE = "bookworm"
COMPILER = Path("/usr/bin/aarch64-linux-gnu-gcc")
"""In the tree, what its Python compiles with; here, the cross compiler."""
EMULATOR = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
FILES = ROLES / "appliance" / "files"
PYTHON = "3.11"
TESTS = ("ext", "golden", "capture", "classify", "policy", "trigger", "test_pipeline.py")
"""Of tests/: everything compiled, and what is built on it; the rest is the same Python anywhere."""
NEEDS_MORE = "tests/trigger/test_zeek_scripts.py"
"""Zeek scripts are the same text anywhere, and their parser is not installed there."""
NEEDS_A_KERNEL = (
    "tests/capture/test_interfaces.py::test_the_kernels_own_answer",
    "tests/capture/test_interfaces.py::test_offloads_of_a_name_that_is_no_text",
)
"""qemu-user does not hand on the question about offloads (SIOCETHTOOL)."""
THEIRS = ("pytest", "pytest-xdist", "hypothesis", "tqdm", "PyYAML")
"""What the tests take."""
LEFT_OUT = "not net and not data and not nightly and not zeek"
MAX_S = 7200.0


@pytest.fixture(scope="module")
def emulated() -> Iterator[None]:
    """Programs of arm64 run here; as before, afterwards."""
    if os.geteuid():
        pytest.skip("needs root: a tree of Debian is made and entered")
    for tool in ("debootstrap", "update-binfmts"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}: install debootstrap, qemu-user-static, binfmt-support")
    ours = not EMULATOR.exists()
    if ours:
        words = ["update-binfmts", "--enable", "qemu-aarch64"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode or not EMULATOR.exists():
            pytest.skip(f"no qemu-aarch64: install qemu-user-static ({done.stderr.strip()})")
    yield
    if ours:
        subprocess.run(["update-binfmts", "--disable", "qemu-aarch64"], check=False)


@pytest.fixture(scope="module")
def root(emulated: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tree that nothing here can change for the next run."""
    place = tmp_path_factory.mktemp("arm64")
    root, upper, work = (place / name for name in ("root", "upper", "work"))
    for path in (root, upper, work):
        path.mkdir()
    lower = tree(SUITE, foreign="arm64")
    layers = f"lowerdir={lower},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", root], check=True)
    try:
        with mounted(root), native_compiler(root):
            yield root
    finally:
        subprocess.run(["umount", "--lazy", root], check=False)


@contextlib.contextmanager
def native_compiler(root: Path) -> Iterator[None]:
    """This machine's cross compiler in the place of the tree's own, where it is the same one."""
    here = platform.freedesktop_os_release().get("VERSION_CODENAME")
    if here != SUITE or platform.machine() != "x86_64" or not COMPILER.exists():
        yield
        return
    lent = root / "lent"
    lent.mkdir()
    # It is found by its path beside what it takes along, and its loader by the loader's own.
    for name in ("usr/lib64", "usr/lib/x86_64-linux-gnu", "usr/aarch64-linux-gnu"):
        (root / name).symlink_to(Path("/lent", Path(name).relative_to("usr")))
    (root / "lib64").symlink_to("usr/lib64")
    subprocess.run(["mount", "--bind", "-o", "ro", "/usr", lent], check=True)
    inside(root, "ln", "--symbolic", "--force", f"/lent/bin/{COMPILER.name}", str(COMPILER))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", lent], check=False)


@pytest.fixture(scope="module")
def house(root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the controller hands out to such a host, and what the tests take, in the tree."""
    place = tmp_path_factory.mktemp("house")
    words = [sys.executable, str(FILES / "wheelhouse.py"), f"--source={ROOT}", f"--cache={place}"]
    words += [f"--constraints={FILES}/constraints/{PYTHON}.txt", f"--python={PYTHON}"]
    subprocess.run([*words, "--machine=aarch64"], check=True, stdout=subprocess.DEVNULL)
    (found,) = (path for path in place.iterdir() if path.is_dir())
    platforms = [f"--platform=manylinux{tag}_aarch64" for tag in ("_2_28", "_2_17", "2014")]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", f"--dest={found}"]
        + ["--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}", *platforms]
        + [f"--abi={abi}" for abi in ("cp311", "abi3", "none")]
        + list(THEIRS),
        check=True,
    )
    shutil.copytree(found, root / "house")
    return "/house"


def inside(root: Path, *words: str) -> str:
    """Run a program of the tree; return what it printed."""
    done = subprocess.run(
        ["chroot", str(root), *words],
        capture_output=True, text=True, env=QUIET, timeout=MAX_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


def test_the_wheel_is_built_as_on_a_host(root: Path, house: str) -> None:
    said = inside(root, "python3", f"{house}/build.py", house).splitlines()
    assert said[-1].endswith("linux_aarch64.whl")
    inside(root, "python3", "-m", "venv", "/venv")
    install = ("/venv/bin/pip", "install", "--quiet", "--no-index", f"--find-links={house}")
    inside(root, *install, "ids-appliance", *THEIRS)
    assert "ids-appliance" in inside(root, "/venv/bin/ids-appliance", "--version")


def test_the_unit_tests_pass(root: Path, request: pytest.FixtureRequest) -> None:
    if not (root / "venv/bin/ids-appliance").exists():
        pytest.skip("there is no wheel to test")
    source = root / "source"
    ours = shutil.ignore_patterns("__pycache__", "*.so")
    for name in ("tests", "models", "docs", "ext", "ansible"):
        shutil.copytree(ROOT / name, source / name, ignore=ours)
    for name in ("pyproject.toml", "setup.py"):
        shutil.copy2(ROOT / name, source)
    # Without the package beside the tests: the wheel is what is tested.
    run = f"cd /source && exec /venv/bin/python -m pytest -q -m '{LEFT_OUT}' -p no:cacheprovider "
    run += "-n 2 --dist loadfile "
    run += f"--ignore={NEEDS_MORE} " + "".join(f"--deselect={one} " for one in NEEDS_A_KERNEL)
    said = inside(root, "sh", "-c", run + " ".join(f"tests/{name}" for name in TESTS))
    with request.getfixturevalue("capsys").disabled():
        print(f"\n    arm64: {said.splitlines()[-1]}", flush=True)
