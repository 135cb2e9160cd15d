"""Any struct: tables that do not fit it become one line with place and remedy."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from ids_appliance.config_file import strict
from ids_appliance.errors import ConfigError


class Shelf(msgspec.Struct, kw_only=True):
    colour: Literal["red", "blue"] = "red"
    height: Annotated[int, msgspec.Meta(ge=1)]


class Room(msgspec.Struct, kw_only=True):
    shelves: tuple[Shelf, ...] = ()
    names: dict[str, int] = {}


class House(msgspec.Struct, kw_only=True):
    room: Room
    doors: tuple[int, ...] = ()


def house(**room: Any) -> strict.Table:
    return {"room": room}


def test_what_fits_becomes_a_struct() -> None:
    given = house(shelves=[{"height": 2}, {"height": 3, "colour": "blue"}], names={"a": 1})
    strict.refuse_unknown(given, House)
    found = strict.convert(given, House)
    assert found.room.shelves == (Shelf(height=2), Shelf(height=3, colour="blue"))


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"door": 1}, "there is no setting 'door': did you mean 'doors'"),
        ({"zzz": 1}, "there is no setting 'zzz': there are room, doors"),
        ({"room": 1}, "room = 1: expected a table, as in [room]"),
        (house(name={}), "[room] has no setting 'name': did you mean 'names'"),
        (house(shelves={}), "room.shelves = {}: expected tables, as in [[room.shelves]]"),
        (house(shelves=[{}, 1]), "room.shelves = [{}, 1]: expected tables, as in [[room.shelves]]"),
        (
            house(shelves=[{"height": 1}, {"hight": 1}]),
            "[room.shelves[1]] has no setting 'hight': did you mean 'height'",
        ),
    ],
)
def test_what_is_unknown_is_refused(given: strict.Table, line: str) -> None:
    with pytest.raises(ValueError) as raised:
        strict.refuse_unknown(given, House)
    assert str(raised.value) == line


@pytest.mark.parametrize(
    ("tables", "line"),
    [
        (["room", ""], "it belongs to [room] or the top"),
        (["a", "b", "c", "d"], "there are room, doors"),
        ([], "there are room, doors"),
    ],
)
def test_few_tables_that_know_the_key_are_named(tables: list[str], line: str) -> None:
    with pytest.raises(ValueError) as raised:
        strict.refuse_unknown({"zzz": 1}, House, elsewhere=lambda key: tables)
    assert str(raised.value) == f"there is no setting 'zzz': {line}"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({}, "room is missing: a table"),
        (house(shelves=[{"height": 1}, {}]), "room.shelves[1].height is missing: a whole number"),
        (house(shelves=[{"height": 0}]), "room.shelves[0].height = 0: expected a whole number, >="),
        (house() | {"doors": [1, "x"]}, 'doors[1] = "x": expected a whole number'),
        (house(names={"a": "x"}), "room.names = {'a': 'x'}: expected a table of names, each"),
        (
            house(shelves=[{"height": 1, "colour": "bleu"}]),
            'room.shelves[0].colour = "bleu": expected one of "blue", "red"; did you mean "blue"',
        ),
    ],
)
def test_values_are_refused_at_their_place(given: strict.Table, line: str) -> None:
    with pytest.raises(ValueError) as raised:
        strict.convert(given, House)
    assert str(raised.value).startswith(line)


def test_contradictions_are_counted() -> None:
    strict.refuse_contradictions(Path("x.toml"), [])
    for wrong, line in ((["one"], "x.toml: one"), (["one", "two"], "x.toml: one (and 1 more)")):
        with pytest.raises(ConfigError) as raised:
            strict.refuse_contradictions(Path("x.toml"), wrong)
        assert str(raised.value) == line
