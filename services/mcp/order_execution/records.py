"""Frozen records, made and changed cheaply: every order makes about ten of them on its way.

A frozen dataclass fills itself through ``object.__setattr__``, one call for each field. Here a record is filled as
its *draft*, a class with the same slots that is not frozen, by plain assignments; when it is complete, the draft is
declared to be the record, which Python allows between two classes of one layout. What comes out is a record like
any other: nothing tells how it was made.

As dataclasses do for ``__init__``, the code of each function is written once from the fields of its class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, fields
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_UNSET: Final = object()
"""Stands for what a caller did not give."""


def maker(record: Callable[P, R]) -> Callable[P, R]:
    """A function that makes ``record``s: the same parameters and defaults, a third of the price or less.

    Raises TypeError for a class that is no dataclass with slots of its own, or does more than to take its fields.
    """
    parts = _fields_of(record)
    known = {f"_default_{part.name}": part.default for part in parts}
    known |= {f"_factory_{part.name}": part.default_factory for part in parts}
    lines = [f"_made.{part.name} = {_given_or_made(part)}" for part in parts]
    make: Callable[P, R] = _function(record, "make", _parameters(parts), lines, known)
    return make


def changer(record: Callable[..., R]) -> Callable[..., R]:
    """A function that copies a ``record`` with the named fields changed: ``dataclasses.replace`` at a tenth.

    What it gives back raises TypeError for a field that there is not. Raises TypeError as ``maker()`` does.
    """
    names = [part.name for part in _fields_of(record)]
    lines = [f"_made.{name} = _before.{name} if {name} is _UNSET else {name}" for name in names]
    parameters = ["_before", "/", *(f"{name}=_UNSET" for name in names)]
    change: Callable[..., R] = _function(record, "change", parameters, lines, {})
    return change


def _fields_of(record: Any) -> tuple[Field[Any], ...]:
    parts = fields(record)
    plain = tuple(part.name for part in parts) == getattr(record, "__slots__", None)
    public = all(part.init and not part.name.startswith("_") for part in parts)  # the code below has names with _
    if not plain or not public or hasattr(record, "__post_init__"):
        raise TypeError(f"{record.__name__} is not made of its fields alone")
    return parts


def _parameters(parts: Iterable[Field[Any]]) -> list[str]:
    """As they stand in ``__init__``: those that go by name alone come last."""
    by_place = [_parameter(part) for part in parts if not part.kw_only]
    by_name = [_parameter(part) for part in parts if part.kw_only]
    return [*by_place, "*", *by_name] if by_name else by_place


def _parameter(part: Field[Any]) -> str:
    if part.default is not MISSING:
        return f"{part.name}=_default_{part.name}"
    return part.name if part.default_factory is MISSING else f"{part.name}=_UNSET"


def _given_or_made(part: Field[Any]) -> str:
    if part.default_factory is MISSING:
        return part.name
    return f"_factory_{part.name}() if {part.name} is _UNSET else {part.name}"


def _function(record: Any, name: str, parameters: list[str], lines: list[str], known: dict[str, Any]) -> Any:
    """Compile ``name(parameters)``, which fills a draft by ``lines`` and gives it back as a ``record``."""
    draft = type(f"{record.__name__}Draft", (), {"__slots__": record.__slots__})
    draft().__class__ = record  # here and now, should the layouts ever differ
    body = ["_made = _new(_draft)", *lines, "_made.__class__ = _record", "return _made"]
    source = f"def {name}({', '.join(parameters)}):\n    " + "\n    ".join(body)
    known |= {"_UNSET": _UNSET, "_new": object.__new__, "_draft": draft, "_record": record}
    exec(source, known)  # noqa: S102 - the names of fields are all that goes in, as in dataclasses
    function = known[name]
    function.__module__, function.__qualname__ = record.__module__, f"{name}_{record.__name__}"
    return function
