"""The fuzzers' targets without the fuzzer: their seeds, and some damaged ones."""

import importlib
import random

import pytest

from tests.examples import examples
from tests.fuzz.run import TARGETS


def damaged(rng: random.Random, seed: bytes) -> bytes:
    data = bytearray(seed)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        what = rng.randrange(3)
        if what == 0 and at < len(data):
            data[at] = rng.randrange(256)
        elif what == 1:
            data[at:at] = rng.randbytes(rng.randint(1, 8))
        else:
            del data[at : at + rng.randint(1, 8)]
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_target_finds_nothing(name: str) -> None:
    target = importlib.import_module(f"tests.fuzz.{name}")
    rng, seeds = random.Random(name), list(target.seeds())
    for seed in seeds:
        target.fuzz(seed)
    for _ in range(examples(400).max_examples):
        target.fuzz(damaged(rng, rng.choice(seeds)))
