"""Where settings come from besides a mapping: variables, a ``.env`` and a TOML file.

Nothing here reads the process's environment; it is passed in. Text has no None: where a setting may be None,
``none`` or ``null`` stands for it. An empty variable counts as not set. The keys of a table of currencies are
upper case, since variables are read in any case.
"""

from __future__ import annotations

import io
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeGuard, Union, get_args, get_origin

from dotenv import dotenv_values
from pydantic import BaseModel, SecretStr
from pydantic_settings import BaseSettings, EnvSettingsSource

from .config_errors import setting_names, suggestion
from .errors import ConfigurationError

ENV_PREFIX: Final = "ORDER_EXECUTION_"
ENV_DELIMITER: Final = "__"
CONFIG_FILE_VARIABLE: Final = "ORDER_EXECUTION_CONFIG_FILE"
DEFAULT_TOML: Final = Path("order_execution.toml")
_NONE_WORDS: Final = frozenset({"none", "null"})


class _Variables(EnvSettingsSource):
    """pydantic-settings' reading of variables that are passed to it."""

    def __init__(self, settings: type[BaseSettings], variables: Mapping[str, str]) -> None:
        self._variables = {key.lower(): value for key, value in variables.items()}
        super().__init__(settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._variables

    def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
        """Let a list be written with commas rather than in JSON; validation judges what it is."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def from_variables(variables: Mapping[str, str], settings: type[BaseSettings]) -> dict[str, Any]:
    """Read the variables that are ours. Raises ConfigurationError for one that no setting reads."""
    ours = {
        key: value
        for key, value in variables.items()
        if key.upper().startswith(ENV_PREFIX) and key.upper() != CONFIG_FILE_VARIABLE
    }
    for key in ours:
        _check_known(key, settings)
    given = {key: value for key, value in ours.items() if value.strip()}
    return normalised(_Variables(settings, given)(), settings, text=True)


def _check_known(key: str, settings: type[BaseModel]) -> None:
    """Refuse a variable of ours that no setting reads: a typing error would otherwise pass unseen."""
    annotation: Any = settings
    for part in key.upper().removeprefix(ENV_PREFIX).lower().split(ENV_DELIMITER):
        if _is_model(annotation) and part in annotation.model_fields:
            annotation = annotation.model_fields[part].annotation
        elif part and _is_table(annotation):
            annotation = None
        else:
            names = [(ENV_PREFIX + name).upper() for name in setting_names(settings, "", ENV_DELIMITER)]
            raise ConfigurationError(
                f"environment variable {key}: there is no such setting{suggestion(key.upper(), names)}", field=key
            )


def read_dotenv(path: Path | None) -> dict[str, str]:
    """Read a ``.env`` file if there is one. Raises ConfigurationError when it cannot be read."""
    if path is None or not path.exists():
        return {}
    text = _read_text(path)
    values = dotenv_values(stream=io.StringIO(text), interpolate=False)
    return {key: value for key, value in values.items() if value is not None}


def read_toml(path: Path | None, variables: Mapping[str, str], settings: type[BaseSettings]) -> dict[str, Any]:
    """Read the TOML file that is given or named by ORDER_EXECUTION_CONFIG_FILE, else the default one if there.

    Raises ConfigurationError when a file that was asked for is missing, and for one that cannot be read.
    """
    named = variables.get(CONFIG_FILE_VARIABLE)
    chosen = path or (Path(named) if named else None)
    if chosen is None:
        if not DEFAULT_TOML.exists():
            return {}
        chosen = DEFAULT_TOML
    try:
        return normalised(tomllib.loads(_read_text(chosen)), settings, text=True)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"configuration file {chosen}: not valid TOML: {error}") from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"configuration file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"configuration file {path}: not UTF-8 text") from None


def merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one configuration over another, key by key."""
    merged = dict(lower)
    for key, value in upper.items():
        before = merged.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(before, value)
        else:
            merged[key] = value
    return merged


def normalised(values: Mapping[str, Any], model: type[BaseModel], *, text: bool) -> dict[str, Any]:
    """Copy a configuration; a section given as None stands for its defaults. ``text``: it came as text."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        field = model.model_fields.get(key)
        annotation = None if field is None else field.annotation
        if _is_model(annotation):
            if value is not None:
                result[key] = normalised(value, annotation, text=text) if isinstance(value, Mapping) else value
        elif text and annotation is not None:
            result[key] = _from_text(value, annotation)
        else:
            result[key] = value
    return result


def _from_text(value: Any, annotation: Any) -> Any:
    if isinstance(value, str):
        if value.strip().lower() in _NONE_WORDS and types.NoneType in get_args(annotation):
            return None
        # Addresses hold commas of their own; their model splits them.
        if get_origin(annotation) is tuple and SecretStr not in get_args(annotation):
            return [item.strip() for item in value.split(",") if item.strip()]
    if isinstance(value, Mapping) and _is_table(annotation):
        return {str(name).upper(): item for name, item in value.items()}
    return value


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_table(annotation: Any) -> bool:
    """Whether a setting is a table with free keys, perhaps None."""
    if get_origin(annotation) in (Union, types.UnionType):
        return any(_is_table(item) for item in get_args(annotation))
    return get_origin(annotation) is dict
