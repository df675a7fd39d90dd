"""pydantic's complaints → one ConfigurationError that names each wrong field, what was expected and what was got.

What was got is never shown where it may be, or may hold, a secret.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from .errors import ConfigurationError

SECRET_FIELDS: Final = frozenset({"api_key", "api_secret", "urls", "url", "base_url"})
"""Fields whose values are not shown: keys, and addresses in which a password may stand."""
SHOWN_MAX: Final = 60
_KEY: Final = "[key]"
"""What pydantic adds to the path of a key that is wrong itself."""
_NOT_A_TABLE: Final = frozenset({"model_type", "model_attributes_type", "dict_type"})


def translated(error: ValidationError, model: type[BaseModel]) -> ConfigurationError:
    """Make one error of all that is wrong; its ``field`` is the first wrong one, by its dotted path."""
    problems = [_describe(problem, model) for problem in error.errors(include_url=False)]
    return ConfigurationError("; ".join(f"{path}: {text}" for path, text in problems), field=problems[0][0])


def _describe(problem: Any, model: type[BaseModel]) -> tuple[str, str]:
    """(dotted path, what is wrong)."""
    location = [str(part) for part in problem["loc"] if part != _KEY]
    path = ".".join(location) or "configuration"
    if problem["type"] == "extra_forbidden":
        return path, f"there is no such setting{did_you_mean(path, model)}"
    if problem["type"] in _NOT_A_TABLE:
        # The value is not shown: a section that was written wrongly may hold keys.
        return path, f"expected a table of settings, got {type(problem['input']).__name__}"
    message = problem["msg"].removeprefix("Value error, ")
    first, colon, rest = message.partition(": ")
    if problem["type"] == "value_error" and colon and first.isidentifier():
        # A check over several fields names the one that it blames.
        return f"{path}.{first}", rest
    hidden = SECRET_FIELDS.intersection(location) or isinstance(problem["input"], (dict, BaseModel))
    got = "" if hidden else f", got {repr(problem['input'])[:SHOWN_MAX]}"
    return path, f"expected {_expected(message)}{got}"


def _expected(message: str) -> str:
    """Reduce pydantic's sentence to what was expected."""
    message = message.partition(", unable to parse")[0]
    for prefix in ("Input should be ", "Input should "):
        if message.startswith(prefix):
            return message.removeprefix(prefix)
    return message[:1].lower() + message[1:]


def setting_names(model: type[BaseModel], prefix: str = "", separator: str = ".") -> Iterator[str]:
    """Every setting below a model, sections included, by its path."""
    for name, field in model.model_fields.items():
        yield prefix + name
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from setting_names(inner, f"{prefix}{name}{separator}", separator)


def did_you_mean(path: str, model: type[BaseModel]) -> str:
    """Name a setting of the same section with a close name, or one of the same name elsewhere."""
    known = list(setting_names(model))
    section, _, name = path.rpartition(".")
    beside = {item.rpartition(".")[2]: item for item in known if item.rpartition(".")[0] == section}
    close = difflib.get_close_matches(name, beside, n=1)
    elsewhere = [item for item in known if item.rpartition(".")[2] == name]
    meant = [beside[item] for item in close] or elsewhere
    return f"; did you mean {meant[0]}?" if meant else ""


def suggestion(name: str, known: list[str]) -> str:
    """Name the closest known setting, if one is close."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
