"""How many examples a long comparison looks at: some of them every day, all of them nightly."""

from typing import Final

from hypothesis import settings

EVERYDAY: Final = 4
"""Every day one of so many: always the same ones, while `make nightly` looks for new ones."""


def examples(many: int) -> settings:
    """Return settings for a test that needs `many` examples to be thorough."""
    # The everyday profile is the one without chance (tests/conftest.py).
    return settings(max_examples=many // EVERYDAY if settings().derandomize else many)
