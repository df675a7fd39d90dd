"""TEMPORARY STAND-IN written by the lead so that the rest can run; the owner of this file overwrites it."""
from typing import Any
class Metrics:
    def __init__(self, registry: Any = None) -> None: ...
    def __getattr__(self, name: str) -> Any:
        return lambda *a, **k: None
