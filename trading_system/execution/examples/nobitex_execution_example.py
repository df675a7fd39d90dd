"""Place orders through the synchronous engine, and look at everything that it keeps of them.

    python trading_system/execution/examples/nobitex_execution_example.py
    python trading_system/execution/examples/nobitex_execution_example.py --adapter nobitex --symbol btc-usdt

Without arguments it trades on the embedded paper exchange. With ``--adapter nobitex`` it places REAL orders with
the keys from NOBITEX_API_KEY and NOBITEX_API_SECRET (``--base-url``: those of a sandbox), and asks before it does.
"""

from __future__ import annotations

import argparse
import random
import sys
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

from services.mcp.order_execution import ConfigurationError, OrderExecutionError
from trading_system.execution import (
    EngineDied,
    ExecutionResult,
    NobitexExecutionEngine,
    Order,
    OrderSide,
    OrderTimeInForce,
    OrderType,
    PositionBook,
)


def engine_config(adapter: str, base_url: str | None, data: Path) -> dict[str, Any]:
    """A configuration that keeps everything in one directory."""
    return {
        "execution_engine": {
            "exchange_adapter": adapter,
            "max_retries": 3,
            "retry_delay": 0.5,
            "order_update_interval": 1.0,
            "transaction_log_path": str(data / "transactions"),
            "journal_path": str(data / "execution_engine.db"),
            "positions_path": str(data / "positions.db"),
            "circuit_breaker_enabled": True,
            "failure_threshold": 3,
            "circuit_open_timeout": 30,
        },
        "exchange": {"timeout": 15, "base_url": base_url},
    }


def report(result: ExecutionResult) -> None:
    """Say what became of an order: there are three outcomes, not two."""
    if result.success:
        print(f"  placed: {result.exchange_order_id} at the exchange, in {result.execution_time * 1000:.1f} ms")
    elif result.unresolved:
        print(f"  UNRESOLVED, it may be at the exchange: {result.error_message}")
    else:
        print(f"  failed in {result.phase.value}: {result.error_message}")


def below(price: Decimal) -> Decimal:
    """About a tenth below, where it rests; with three digits, which are on any market's grid."""
    unit = Decimal(1).scaleb(price.adjusted() - 2)
    return (price * Decimal("0.9") / unit).to_integral_value() * unit


def a_little() -> Decimal:
    """An amount from 0.001 to 0.002: Nobitex refuses an order that equals one of the last ten seconds."""
    return Decimal(random.randint(1_000, 2_000)) / 1_000_000  # noqa: S311 - no secret


def run(engine: NobitexExecutionEngine, symbol: str) -> int:
    """A market order, a limit order that is canceled, and one without a price, which is refused."""
    print("A market order")
    market = Order(
        order_id=str(uuid.uuid4()),
        symbol=symbol,
        side=OrderSide.BUY,
        order_type=OrderType.MARKET,
        quantity=a_little(),
        time_in_force=OrderTimeInForce.IOC,
    )
    report(engine.execute_order(market))
    print("The same order once more: the same answer, and no second order")
    report(engine.execute_order(market))
    known = engine.get_order(market.order_id)
    if known is not None and known.average_price:
        print("A limit order below the market, and its cancel")
        price = below(known.average_price)
        limit = Order(
            symbol=symbol, side=OrderSide.BUY, order_type=OrderType.LIMIT, quantity=a_little(), price=price
        )
        report(engine.execute_order(limit))
        print(f"  canceled: {engine.cancel_order(limit.order_id)}")
    else:
        print("No limit order below the market: it did not trade, so where the market is, is not known")
    print("An order without a price")
    broken = Order(symbol=symbol, side=OrderSide.SELL, order_type=OrderType.LIMIT, quantity="0.001")
    report(engine.execute_order(broken))
    known = engine.get_order(market.order_id)
    if known is not None:
        print(f"The market order is {known.status.value}: {known.filled_quantity} at {known.average_price}")
    if isinstance(engine.positions, PositionBook):
        for position in engine.positions.positions():
            print(f"Position {position.symbol}: {position.quantity} at {position.average_entry}")
    history = engine.get_order_history(market.order_id)
    print(f"Its history has {len(history)} entries: {', '.join(str(entry.get('kind')) for entry in history)}")
    stats = engine.get_stats()
    print(f"Results: {stats['results']}; reconciliation clean: {engine.reconcile('hourly')['is_clean']}")
    return 0 if stats["unresolved_orders"] == 0 else 1


def main(arguments: list[str] | None = None) -> int:
    """Run the example. 0: every order is accounted for, 1: one is unresolved, 2: usage, 75: no exchange."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", choices=("mock", "nobitex"), default="mock")
    parser.add_argument("--symbol", default="btc-usdt")
    parser.add_argument("--base-url", help="another host, such as the local sandbox")
    parser.add_argument("--data", type=Path, default=Path("data/example"), help="where everything is kept")
    given = parser.parse_args(arguments)
    real = given.adapter == "nobitex" and given.base_url is None
    if real and sys.stdin.isatty() and input("This places REAL orders on Nobitex. Type yes: ").strip() != "yes":
        return 2
    try:
        with NobitexExecutionEngine(engine_config(given.adapter, given.base_url, given.data)) as engine:
            return run(engine, given.symbol)
    except ConfigurationError as error:
        return give_up(error, 2)
    except (OrderExecutionError, EngineDied, TimeoutError) as error:
        return give_up(error, 75)


def give_up(error: Exception, code: int) -> int:
    """Say on one line why it cannot go on; what was placed is in the journal, and resolved by the next run."""
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
