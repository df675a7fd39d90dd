"""Nobitex: spot orders over its REST API, with its private order stream as a hint.

Facts and their standing: docs/discussions/nobitex-assumptions.md. Prices of markets in IRT are in rial.
"""

from .gateway import NobitexGateway

__all__ = ["NobitexGateway"]
