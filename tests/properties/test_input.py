"""Arbitrary input: a success or a clear error of ours, never another exception, and nothing half done."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.mcp.order_execution import OrderExecutionError
from services.mcp.order_execution.errors import ConfigurationError, InvalidOrder
from tests.virtual_time import run_virtual
from tests.worlds import ORDER, World

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=10),
    st.decimals(),
    st.sampled_from(
        ["buy", "limit", "BTC/USD", "GTC", "1e400", "NaN", "-0", "٣", "1_000", "0x10", "\x00", "a" * 200]
    ),
    st.builds(object),
)
junk = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=8), inner, max_size=3),
        st.tuples(inner),
        st.sets(st.integers(), max_size=2),
    ),
    max_leaves=6,
)
KEYS = (
    "symbol", "side", "type", "amount", "price", "stop_price", "time_in_force", "post_only", "client_order_id",
    "deadline_seconds", "quantity", "", "Symbol",
)  # fmt: skip


@given(
    params=st.one_of(
        junk,
        st.dictionaries(st.sampled_from(KEYS), junk, max_size=6),
        st.dictionaries(st.sampled_from(KEYS), junk, max_size=2).map(lambda changes: {**ORDER, **changes}),
    )
)
def test_any_order_is_placed_or_refused_by_name_with_nothing_half_done(params: Any) -> None:
    """What is refused left no trace: no request, no journal entry, no reservation."""

    async def main() -> None:
        world = World()
        try:
            order_id = await asyncio.wait_for(world.bot.execute_order(params), 1_000)
        except InvalidOrder as error:
            assert error.field
            assert str(error)
            assert world.exchange.submits == []
            assert world.store.orders == {}
            core = world.bot._core
            assert core is None or not core.funds.reservations
        except OrderExecutionError:
            assert world.exchange.placed == []
        else:
            assert world.exchange.placed == [order_id]
            assert world.exchange.orders["X1"].amount == Decimal(str(params["amount"]).strip())
        finally:
            await world.bot.close()

    run_virtual(main)


SECTIONS = (
    *(
        "gateway",
        "journal",
        "retry",
        "circuit_breaker",
        "confirmation",
        "risk",
        "transaction_log",
        "alerts",
        "typo",
    ),
)
NAMES = (
    *("name", "timeout_seconds", "rate_limit_share", "url", "max_retries", "backoff_base", "initial_delay"),
    *("max_delay", "retryable_errors", "error_threshold", "warning_threshold", "window_size_minutes"),
    *("cool_down_seconds", "wait_for", "poll_interval_seconds", "max_order_notional", "max_position", "path"),
    *("urls", "min_level", "typo"),
)


@given(
    config=st.one_of(
        junk,
        st.dictionaries(
            st.sampled_from(SECTIONS),
            st.one_of(junk, st.dictionaries(st.sampled_from(NAMES), junk, max_size=4)),
            max_size=4,
        ),
    )
)
def test_any_configuration_is_in_force_whole_or_not_at_all(config: Any) -> None:
    """A bad one names what was expected and leaves the old one in force, and orders go on."""

    async def main() -> None:
        world = World({"retry": {"max_retries": 2}})
        before = world.bot.settings
        try:
            await world.bot.configure(config)
        except ConfigurationError as error:
            assert str(error)
            assert world.bot.settings == before
            assert await world.bot.execute_order(ORDER)
        else:
            assert isinstance(config, dict)
        await world.bot.close()

    run_virtual(main)
