"""What the commands that judge share: the choice of the classifier, and the closing account."""

from pathlib import Path
from typing import Any

import click

from ids_appliance import assemble
from ids_appliance.cli.options import connect_nodes
from ids_appliance.types import Classifier

MODEL = click.Path(path_type=Path, file_okay=True, dir_okay=True)


def open_classifier(model: Path | None, options: dict[str, Any]) -> Classifier:
    """Return the classifier that --model and the node options ask for.

    A node brings its own model; a --model beside it must be the same. Raises IdsError."""
    nodes = options.pop("nodes")
    if not nodes:
        if model is None:
            raise click.UsageError("give --model BUNDLE to judge here, or --node HOST:PORT")
        return assemble.local_classifier(model)
    classifier = connect_nodes(nodes, **options)
    if model is not None:
        try:
            assemble.check_same_model(classifier, model)
        except BaseException:
            classifier.close()
            raise
    return classifier


def account(counters: dict[str, int]) -> str:
    """Return one line that says where every delivered frame went."""
    parts = [f"delivered {counters['delivered']:,}", f"judged {counters['judged']:,}"]
    for name in ("unparsable", "own", "echo", "unanswered", "shed", "under_way"):
        if counters[name]:
            parts.append(f"{name.replace('_', ' ')} {counters[name]:,}")
    return " · ".join(parts)
