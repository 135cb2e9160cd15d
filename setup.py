"""Build the compiled modules; the metadata is in pyproject.toml.

Two switches, read from the environment:
  IDS_EXT_DEBUG=1     bounds checks and wrap-around back on, division checked
  IDS_EXT_SANITIZE=1  AddressSanitizer and UndefinedBehaviorSanitizer (the fuzzers' build)
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("IDS_EXT_DEBUG") == "1"
SANITIZE = os.environ.get("IDS_EXT_SANITIZE") == "1"

# No -march here: a wheel built on one gateway has to run on the next one.
FLAGS = ["-O1", "-g"] if DEBUG or SANITIZE else ["-O3"]
# A product and a sum are two roundings everywhere: gcc fuses them on arm64, where a gateway's
# probability would then differ from its node's.
FLAGS += ["-ffp-contract=off", "-Wno-unused-function", "-Wno-unreachable-code"]
LINK = []
if SANITIZE:
    FLAGS += ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
    LINK += ["-fsanitize=address,undefined"]

MODULES = (
    "features",
    "cells",
    "forest",
    "wire",
    "capfile",
    "ring",
    "evidence",
    "screen",
    "nfqueue",
    "paced",
)


class PutInPlace(build_ext):
    """Replace compiled modules whole: nobody who starts meanwhile finds one missing or half of it,
    and who has loaded the old one keeps it (mmap(2): bytes behind a file's end are a SIGBUS)."""

    def copy_file(self, infile, outfile, *args, **kwargs):
        """Copy beside, then rename."""
        # Still a name that version control and packages pass over.
        beside = f"{outfile}.{os.getpid()}.so"
        try:
            super().copy_file(infile, beside, *args, **kwargs)
            os.replace(beside, outfile)
        except BaseException:
            if os.path.exists(beside):
                os.unlink(beside)
            raise
        return outfile, 1


setup(
    cmdclass={"build_ext": PutInPlace},
    ext_modules=cythonize(
        [
            Extension(
                f"ids_appliance._{name}",
                [f"ext/{name}.pyx"],
                extra_compile_args=FLAGS,
                extra_link_args=LINK,
            )
            for name in MODULES
            if os.path.exists(f"ext/{name}.pyx")
        ],
        include_path=["ext"],
        # A changed directive does not make Cython regenerate, so the debug build forces it.
        force=DEBUG or SANITIZE,
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": DEBUG,
            "cdivision": not DEBUG,
            "initializedcheck": DEBUG,
            "embedsignature": True,
            "freethreading_compatible": False,
        },
    ),
)
