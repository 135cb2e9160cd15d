"""Builds the compiled modules with sanitizers and coverage, then fuzzes target after target.

usage: python -m tests.fuzz.run [--minutes N] [--target NAME|all] [--build DIR]
Needs clang with its sanitizer runtime, and atheris (pip install atheris) in this interpreter. The
minutes are shared out among the targets. Exit code 1: a finding; its input is in DIR/findings.
"""

import argparse
import hashlib
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGETS = {
    "parse": 400,
    "cells": 1500,
    "capfile": 3000,
    "wire": 2000,
    "bundle": 4000,
    "jsonlines": 5000,
    "screen": 1500,
}
"""Targets and the largest input in bytes that pays."""
COPIED = ("ext", "ids_appliance", "tests", "setup.py", "pyproject.toml", "LICENSE", "README.md")
SANITIZERS = "-fsanitize=fuzzer-no-link -fsanitize=address,undefined -fno-sanitize-recover=all"
STATISTIC = re.compile(r"stat::number_of_executed_units: *(\d+)")
COVERAGE = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")


def build(directory: Path) -> None:
    """Copy the tree to `directory` and compile its modules there, away from the ones in use."""
    for name in COPIED:
        source, target = ROOT / name, directory / name
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.so", "*.c", "__pyc*"))
        else:
            shutil.copy2(source, target)
    ignored = f" -fsanitize-ignorelist={directory}/tests/fuzz/sanitizer.ignore"
    flags = {"CC": "clang", "LDSHARED": "clang -shared", "CFLAGS": SANITIZERS + ignored}
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=directory,
        env=os.environ | flags | {"IDS_EXT_SANITIZE": "1"},
        check=True,
    )


def write_seeds(target: str, corpus: Path) -> None:
    """Write the target's seeds, named by their hash as libFuzzer does it."""
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in importlib.import_module(f"tests.fuzz.{target}").seeds():
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)


def runtime() -> Path:
    """Return atheris' AddressSanitizer with libFuzzer inside, to be preloaded."""
    found = importlib.util.find_spec("asan_with_fuzzer") or importlib.util.find_spec("atheris")
    if found is None or found.origin is None:
        raise SystemExit("atheris is not installed: pip install atheris")
    path = Path(found.origin)
    return path if path.suffix == ".so" else path.parent.parent / "asan_with_fuzzer.so"


def fuzz(target: str, seconds: int, directory: Path) -> int:
    """Run one target in `directory`; print one line about it and return its exit code."""
    corpus, findings = directory / "corpus" / target, directory / "findings"
    findings.mkdir(exist_ok=True)
    write_seeds(target, corpus)
    log = directory / f"{target}.log"
    command = [sys.executable, "-m", "tests.fuzz.one", target]
    command += [f"-max_total_time={seconds}", f"-max_len={TARGETS[target]}", "-timeout=20"]
    command += ["-print_final_stats=1", f"-artifact_prefix={findings}/{target}-", str(corpus)]
    environment = os.environ | {
        "LD_PRELOAD": str(runtime()),
        "PYTHONMALLOC": "malloc",  # so that the sanitizer sees where each object ends
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter never frees everything
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    with log.open("wb") as output:
        code = subprocess.run(
            command, cwd=directory, env=environment, stdout=output, stderr=output, check=False
        ).returncode
    text = log.read_text(errors="replace")
    units, coverage = STATISTIC.search(text), COVERAGE.findall(text)
    print(
        f"{target:8} {seconds:5} s  executions {int(units[1]) if units else 0:>9,}  "
        f"edges {coverage[-1][0] if coverage else '?'}  corpus {coverage[-1][2] if coverage else 0}"
        f"  {'no finding' if code == 0 else f'FINDING, see {log}'}",
        flush=True,
    )
    return code


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--minutes", type=float, default=30)
    options.add_argument("--target", choices=[*TARGETS, "all"], default="all")
    options.add_argument("--build", type=Path, default=ROOT / "build" / "fuzz")
    chosen = options.parse_args()
    runtime()
    targets = list(TARGETS) if chosen.target == "all" else [chosen.target]
    directory = chosen.build.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    build(directory)
    seconds = max(1, round(chosen.minutes * 60 / len(targets)))
    return int(any([fuzz(target, seconds, directory) != 0 for target in targets]))


if __name__ == "__main__":
    sys.exit(main())
