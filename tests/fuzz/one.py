"""The name of a target and libFuzzer's arguments in, libFuzzer's report out.

usage: python -m tests.fuzz.one TARGET [libFuzzer options] [CORPUS]; run.py starts this with the
sanitizer preloaded.
"""

import importlib
import sys

import atheris


def main() -> None:
    name = sys.argv.pop(1)
    # The stages' Python is instrumented as well; the compiled modules bring their own counters.
    with atheris.instrument_imports(include=["ids_appliance"]):
        target = importlib.import_module(f"tests.fuzz.{name}")
    atheris.Setup(sys.argv, target.fuzz)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
