"""The transaction log with the engine's face: what is written of an order can be read back."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from services.mcp.order_execution.errors import ConfigurationError
from trading_system.execution.orders import Order, OrderFill, OrderSide, OrderType
from trading_system.execution.results import ExecutionOutcome, ExecutionPhase, ExecutionResult
from trading_system.execution.transaction_logger import TransactionLogger

ORDER = Order(
    symbol="btc-usdt", side=OrderSide.BUY, order_type=OrderType.LIMIT, quantity="0.1", price="5", order_id="o"
)
FILL = OrderFill("T1", Decimal(5), Decimal("0.1"), Decimal("0.001"), "USDT", 1_700_000_000_000)


def test_one_orders_history_is_given_back_in_order(tmp_path: Path) -> None:
    """Creation, phases, submission, fill, update, retry, error, result; nothing of other orders."""
    log = TransactionLogger(tmp_path)
    log.log_order_creation(ORDER)
    log.log_phase("o", ExecutionPhase.PRE_COMMIT)
    log.log_order_submission(ORDER)
    log.log_retry("o", 1, "timeout")
    log.log_error("o", ExecutionPhase.COMMIT, TimeoutError("no answer"), attempt=1)
    log.log_order_fill(ORDER, FILL)
    log.log_order_update(ORDER)
    result = ExecutionResult(True, "o", "X1", None, ExecutionPhase.POST_COMMIT, 1, 0.5, ExecutionOutcome.SUCCESS)
    log.log_result(result)
    log.log_phase("other", ExecutionPhase.COMMIT)
    log.log_error(None, "startup", "ExchangeUnavailable")
    log.close()
    log.close()
    history = log.get_order_history("o")
    assert [entry["kind"] for entry in history] == [
        "created",
        "phase:pre_commit",
        "submitted",
        "retry",
        "error",
        "fill",
        "updated",
        "result:success",
    ]
    assert {path.name.split("-2")[0] for path in tmp_path.iterdir()} == {"orders", "fills", "errors"}
    error = next(entry for entry in history if entry["log"] == "errors")
    assert (error["phase"], error["error"]) == ("commit", "TimeoutError")
    assert (error["kind"], error["detail"]) == ("error", {"message": "no answer", "attempt": 1})
    assert result.to_dict()["outcome"] == "success"


def test_secrets_never_reach_the_files(tmp_path: Path) -> None:
    """Wherever somebody puts them."""
    log = TransactionLogger(tmp_path, secrets=["TOP-SECRET"])
    log.log_error("o", "commit", RuntimeError("header TOP-SECRET"), header="TOP-SECRET")
    log.log_phase("o", ExecutionPhase.COMMIT, {"note": "TOP-SECRET"})
    log.close()
    assert all("TOP-SECRET" not in path.read_text() for path in tmp_path.iterdir())


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """At once, and by name."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"transaction_log\.path"):
        TransactionLogger(tmp_path / "file" / "log")
