"""Options that `extract`, `train` and `evaluate` share: which captures, what kind of model."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from ids_appliance.cli.options import F
from ids_appliance.train.families import FAMILIES
from ids_appliance.train.fit import Recipe

RECIPE = ("family", "features", "trees", "leaves", "seed", "weight", "jobs")
"""What `recipe_options` adds."""


def data_option(what: str) -> Callable[[F], F]:
    """Return a decorator that adds --data; what: which directory it names."""
    return click.option(
        "--data", required=True, type=click.Path(path_type=Path, file_okay=False), help=what
    )


def recipe_options(command: F) -> F:
    """Add --family, --features, --trees, --leaves, --seed, --weight and --jobs."""
    for option in (
        click.option(
            "--jobs",
            type=click.IntRange(1, 64),
            default=2,
            show_default=True,
            help="Processor cores to use; what comes out is the same.",
        ),
        click.option(
            "--weight",
            type=click.Choice(["packet", "record", "balanced", "origin"]),
            default="origin",
            show_default=True,
            help="What counts alike in training: every packet; every different packet of an "
            "origin; the same with both classes alike; the same with every origin alike in its "
            "class.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**32 - 1),
            default=0,
            show_default=True,
            help="Of a model's random choices, and of splits by chance.",
        ),
        click.option(
            "--leaves",
            type=click.IntRange(2, 4096),
            default=128,
            show_default=True,
            help="At most so many leaves a tree, a quarter of it in boosted ones; more cost time "
            "and find nothing on other networks.",
        ),
        click.option(
            "--trees",
            type=click.IntRange(1, 1024),
            default=50,
            show_default=True,
            help="Trees in a forest or boosted model; a new cell costs time in proportion.",
        ),
        click.option(
            "--features",
            type=click.Choice(["all", "top20", "header"]),
            default="top20",
            show_default=True,
            help="All 60, or the 20 that a forest on all of them finds most important in what is "
            "trained on: as good, and cells a third the size. header: length, protocol and the "
            "octets of IPv4 addresses, as the inline paper has it; addresses know captures, not "
            "attacks.",
        ),
        click.option(
            "--family",
            type=click.Choice(FAMILIES),
            default="forest",
            show_default=True,
            help="What kind of model; vote: the other four, the majority decides. With logistic "
            "regression in it a packet is known again only if it is equal in every feature: most "
            "are judged anew.",
        ),
    ):
        command = option(command)
    return command


def recipe(given: Mapping[str, Any]) -> Recipe:
    """Return the recipe that `recipe_options` were given."""
    return Recipe(**{name: given[name] for name in RECIPE})


def leave_out_option(command: F) -> F:
    """Add --leave-out."""
    return click.option(
        "--leave-out",
        multiple=True,
        metavar="PATTERN",
        help="Files, origins or repositories not to use, e.g. 'mqttset/*'; may be repeated.",
    )(command)


def max_per_capture_option(command: F) -> F:
    """Add --max-per-capture."""
    return click.option(
        "--max-per-capture",
        type=click.IntRange(0),
        default=0,
        help="Use at most so many packets of a capture, evenly spread. [default: all]",
    )(command)


def on_error_option(default: str) -> Callable[[F], F]:
    """Return a decorator that adds --on-error."""
    return click.option(
        "--on-error",
        type=click.Choice(["skip", "stop"]),
        default=default,
        show_default=True,
        help="What to do about wrong labels and about a missing, changed or truncated capture: use "
        "what can be read and name it, or stop.",
    )


def dask_option(what: str) -> Callable[[F], F]:
    """Return a decorator that adds --dask; what: the work."""
    return click.option(
        "--dask",
        metavar="ADDRESS",
        help=f"Who {what}: tcp://HOST:PORT of a Dask scheduler, or local:N for N processes here. "
        "[default: this process]",
    )
