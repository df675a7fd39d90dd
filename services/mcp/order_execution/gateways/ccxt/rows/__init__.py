"""The table: one row for each exchange whose behaviour is known. The others are treated conservatively."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ..row import Row
from . import binance, bitfinex, bitget, bybit, coinbase, cryptocom, gate, htx, kraken, kucoin, mexc, okx

_MODULES: Final = (binance, okx, bybit, kraken, coinbase, kucoin, gate, bitget, htx, mexc, cryptocom, bitfinex)

TABLE: Final[Mapping[str, Row]] = MappingProxyType({module.ROW.exchange: module.ROW for module in _MODULES})
"""Rows by ccxt's id of the exchange."""
