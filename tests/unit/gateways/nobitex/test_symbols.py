"""Symbols in all the forms in which Nobitex writes them."""

from __future__ import annotations

from services.mcp.order_execution.gateways.nobitex.symbols import (
    codes,
    currency,
    from_market,
    from_names,
    from_path,
    path_symbol,
)


def test_symbols_in_every_form() -> None:
    """Ours, the paths', the requests' and the answers'; rial is IRT to us."""
    assert codes("BTC/IRT") == ("btc", "rls")
    assert path_symbol("BTC/IRT") == "BTCIRT"
    assert from_path("BTCIRT") == "BTC/IRT"
    assert from_path("USDTIRT") == "USDT/IRT"
    assert from_path("TUSDT") == "T/USDT"
    assert from_path("IRT") is None
    assert from_market("DOGE-RLS") == "DOGE/IRT"
    assert from_market("broken") is None


def test_display_names_are_read_by_the_exchanges_own_list() -> None:
    """And a name that is on no list is not guessed."""
    names = {"bitcoin": "btc", "btc": "btc"}
    assert from_names("Bitcoin", "\ufdfc", names) == "BTC/IRT"
    assert from_names("bitcoin", "Tether", names) == "BTC/USDT"
    for src, dst in (("Unheard", "Tether"), ("", "Tether"), (None, "Tether"), ("Bitcoin", 5)):
        assert from_names(src, dst, names) is None
    assert currency("rls") == "IRT"
