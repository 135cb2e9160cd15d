"""A drawing becomes a file without any display, and a machine without matplotlib says so."""

import sys

import pytest

from ids_appliance.telemetry.pictures import drawing, save


def test_a_figure_is_written_and_forgotten(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.delenv("DISPLAY", raising=False)
    pyplot = drawing()
    figure, ax = pyplot.subplots()
    ax.plot([0, 1], [1, 0])
    save(pyplot, figure, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert figure.number not in pyplot.get_fignums()


def test_without_matplotlib_there_is_no_drawing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert drawing() is None
