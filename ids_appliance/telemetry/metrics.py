"""Counters in, Prometheus' text out: on request, or over HTTP.

prometheus_client costs about 14 MiB of memory, so that it is imported with the first text that is
asked for, or when serving begins.
"""

import importlib
from collections.abc import Mapping
from typing import Any, Final

from ids_appliance.telemetry.series import Number

_EXPOSITION: Final = "ids_appliance.telemetry.exposition"


class Metrics:
    """The present counters of one process; `update` is for one thread, the rest for any."""

    def __init__(self, info: Mapping[str, str] | None = None) -> None:
        """`info`: what labels ids_appliance_info, such as version and mode."""
        self._info = dict(info or {})
        self._counters: Mapping[str, Number] = {}
        self._exposition: Any = None
        self._server: Any = None

    def update(self, counters: Mapping[str, Number]) -> None:
        """Take over all counters as they are now."""
        self._counters = dict(counters)  # replaced as a whole: readers need no lock

    def set_info(self, **info: str) -> None:
        """Change labels of ids_appliance_info (the mode, the model)."""
        self._info = {**self._info, **info}

    @property
    def counters(self) -> Mapping[str, Number]:
        """What was taken over last."""
        return self._counters

    @property
    def info(self) -> Mapping[str, str]:
        """Labels of ids_appliance_info."""
        return self._info

    def text(self) -> str:
        """Return all series in Prometheus' text format."""
        text: str = self._exposed().text()
        return text

    def serve(self, listen: tuple[str, int]) -> tuple[str, int]:
        """Answer GET /metrics at (host, port), port 0 for a free one; return where it is.

        Raises MetricsError: the address cannot be used."""
        self._server = self._exposed().serve(listen)
        where: tuple[str, int] = self._server.where
        return where

    def close(self) -> None:
        """Stop serving; safe to call twice."""
        if self._server is not None:
            self._server.close()
        self._server = None

    def _exposed(self) -> Any:
        if self._exposition is None:
            module = importlib.import_module(_EXPOSITION)
            self._exposition = module.Exposition(self)
        return self._exposition
