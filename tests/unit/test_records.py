"""Records that are made cheaply are records like any other."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mcp.order_execution import models
from services.mcp.order_execution.gateways import base
from services.mcp.order_execution.records import changer, maker

RECORDS = [
    item
    for module in (models, base)
    for item in vars(module).values()
    if dataclasses.is_dataclass(item) and isinstance(item, type)
]


@dataclass(frozen=True, slots=True)
class Point:
    """A record with everything that a field may have."""

    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list)
    secret: str = field(default="s", repr=False, compare=False)
    name: str = field(default="n", kw_only=True)

    @property
    def total(self) -> int:
        return self.x + self.y


make_point = maker(Point)
change_point = changer(Point)
values = st.fixed_dictionaries(
    {"x": st.integers()}, optional={"y": st.integers(), "tags": st.lists(st.text()), "name": st.text()}
)


@given(given=values)
def test_a_record_is_made_as_its_class_makes_it(given: dict[str, Any]) -> None:
    """Equal, of the same class, told in the same words, and as hard to change."""
    made, usual = make_point(**given), Point(**given)
    assert type(made) is Point
    assert made == usual
    assert repr(made) == repr(usual)
    assert made.total == usual.total
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.x = 1  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del made.x


@given(given=values, changes=values)
def test_a_changed_copy_is_what_replace_makes(given: dict[str, Any], changes: dict[str, Any]) -> None:
    """The named fields, and no others; the record that it was made from stays as it was."""
    before = Point(**given)
    assert change_point(before, **changes) == dataclasses.replace(before, **changes)
    assert before == Point(**given)
    with pytest.raises(dataclasses.FrozenInstanceError):
        change_point(before).x = 1  # type: ignore[misc]


def test_it_goes_by_place_and_by_name_as_in_its_class() -> None:
    """The same parameters in the same order; what is missing, too much or unknown is refused."""
    assert make_point(1, 3, name="a") == Point(1, 3, name="a")
    make: Any = make_point
    for places, names in (((), {}), ((1, 2, [], "s", "n"), {}), ((1,), {"z": 1})):
        with pytest.raises(TypeError):
            make(*places, **names)
    with pytest.raises(TypeError, match="z"):
        change_point(Point(1), z=1)


def test_a_default_that_is_made_is_made_anew_each_time() -> None:
    """Two records share nothing that could be changed."""
    make_point(1).tags.append("x")
    assert make_point(1).tags == []


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_record_of_orders_can_be_made_so(record: Any) -> None:
    """The same parameters as its class; every field is taken over, by making it and by changing another."""
    made = maker(record)
    assert list(inspect.signature(made).parameters) == list(inspect.signature(record).parameters)
    marks = {item.name: object() for item in dataclasses.fields(record)}
    full = made(**marks)
    others = {item.name: object() for item in dataclasses.fields(record)}
    for one in (full, changer(record)(made(**others), **marks), changer(record)(full)):
        assert type(one) is record
        assert {name: getattr(one, name) for name in marks} == marks


def test_it_is_copied_pickled_and_hashed_like_any_other() -> None:
    """How it was made is not seen later either."""
    made = models.make_confirmation(models.Step.FILLS, models.Step.VISIBLE)  # type: ignore[arg-type]
    usual = models.Confirmation(models.Step.FILLS, models.Step.VISIBLE)  # type: ignore[arg-type]
    assert copy.copy(made) == copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == usual
    assert hash(made) == hash(usual)
    assert dataclasses.asdict(made) == dataclasses.asdict(usual)


def test_a_class_that_does_more_is_refused() -> None:
    """Whatever a constructor does beyond taking its fields must not be left out."""

    @dataclass(frozen=True, slots=True)
    class Checked:
        x: int

        def __post_init__(self) -> None:
            assert self.x

    @dataclass(frozen=True)
    class WithoutSlots:
        x: int

    @dataclass(frozen=True, slots=True)
    class Longer(Point):
        z: int = 0

    @dataclass(frozen=True, slots=True)
    class Computed:
        x: int = field(init=False, default=1)

    @dataclass(frozen=True, slots=True)
    class Hidden:
        _x: int

    for refused in (Checked, WithoutSlots, Longer, Computed, Hidden, int):
        for way in (maker, changer):
            with pytest.raises(TypeError):
                way(refused)
