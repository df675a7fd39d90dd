"""Exchange keys from the environment, or from files that it names and nobody else may read."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .errors import ConfigurationError

_KEYS: Final = {"api_key": "API_KEY", "api_secret": "API_SECRET"}
_CCXT_KEYS: Final = {**_KEYS, "password": "API_PASSWORD", "uid": "API_UID"}
_BYTES_MAX: Final = 65_536


def exchange_credentials(name: object, exchange: object, variables: Mapping[str, str]) -> dict[str, str]:
    """Find ``<EXCHANGE>_API_KEY`` and ``<EXCHANGE>_API_SECRET``, or ``…_FILE`` with their paths.

    ``name`` is the gateway. With the gateway ccxt, ``exchange`` is the exchange, and ``<EXCHANGE>_API_PASSWORD``
    and ``<EXCHANGE>_API_UID`` are looked for too (what ccxt calls password and uid). An empty variable counts as
    none. Raises ConfigurationError.
    """
    owner = exchange if name == "ccxt" else name
    if not isinstance(owner, str) or owner == "paper":
        return {}
    prefix = re.sub(r"[^A-Z0-9]", "_", owner.upper())
    found = {}
    for key, suffix in (_CCXT_KEYS if name == "ccxt" else _KEYS).items():
        variable = f"{prefix}_{suffix}"
        value, path = variables.get(variable), variables.get(f"{variable}_FILE")
        if value and path:
            raise ConfigurationError(
                f"{variable} and {variable}_FILE are both set; set one of them", field=variable
            )
        if path:
            value = read_secret_file(Path(path), f"{variable}_FILE")
        if value:
            found[key] = value
    return found


def read_secret_file(path: Path, variable: str) -> str:
    """Read a secret that only its owner may read; white space around it is dropped.

    Raises ConfigurationError, which never shows the content.
    """
    try:
        if not path.is_file():
            reason = "not a file" if path.exists() else "no such file"
            raise ConfigurationError(f"{variable}: {path}: {reason}", field=variable)
        with path.open("rb") as file:
            # The mode of what was opened, not of what the name stands for by then.
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise ConfigurationError(
                    f"{variable}: {path} can be read by others; run: chmod 600 {path}", field=variable
                )
            content = file.read(_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"{variable}: {path}: {error.strerror}", field=variable) from None
    if len(content) > _BYTES_MAX:
        raise ConfigurationError(f"{variable}: {path} is too big for a key", field=variable)
    try:
        secret = content.decode().strip()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{variable}: {path} is not text", field=variable) from None
    if not secret:
        raise ConfigurationError(f"{variable}: {path} is empty", field=variable)
    return secret
