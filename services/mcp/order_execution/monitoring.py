"""TEMPORARY STAND-IN written by the lead so that the rest can run; the owner of this file overwrites it."""
from typing import TypeVar
F = TypeVar("F")
def log_execution_time(f: F) -> F: return f
track_metrics = circuit_breaker_aware = alert_on_failure = log_execution_time
