"""Money is exact: nothing is rounded, and what is refused is named."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation, localcontext

from hypothesis import example, given
from hypothesis import strategies as st

from services.mcp.order_execution.errors import InvalidOrder
from services.mcp.order_execution.fills import average_price, total_fees
from services.mcp.order_execution.gateways.base import Market
from services.mcp.order_execution.models import ZERO, Fill, OrderRequest, OrderType, Side, plain_decimal
from services.mcp.order_execution.parameters import _parse_any, parse_decimal
from services.mcp.order_execution.pretrade import quantise

numbers = st.decimals(min_value=Decimal("1e-15"), max_value=Decimal("1e15"), allow_nan=False, allow_infinity=False)
steps = st.builds(
    lambda digits, exponent: Decimal(digits).scaleb(exponent), st.sampled_from([1, 2, 5, 25]), st.integers(-8, 2)
)
AT = datetime(2026, 1, 1, tzinfo=UTC)


@given(number=numbers)
def test_a_number_is_read_as_it_was_written(number: Decimal) -> None:
    """As Decimal, as text, with an exponent or without: the same exact value, or a clear refusal."""
    for given_value in (number, str(number), plain_decimal(number), f" {number} "):
        try:
            read = parse_decimal("amount", given_value)
        except InvalidOrder as error:
            assert error.field == "amount"
            digits, exponent = number.as_tuple().digits, number.as_tuple().exponent
            assert len(digits) > 28 or not -18 <= int(exponent) <= 18 or len(digits) + int(exponent) > 18
            continue
        assert read == number
        assert plain_decimal(read) == plain_decimal(read.normalize() + 0) or read == number


@given(number=st.floats(allow_nan=True, allow_infinity=True))
def test_a_float_is_read_through_its_shortest_text(number: float) -> None:
    """0.1 is 0.1, and not 0.1000000000000000055; what is no number above zero is refused."""
    try:
        read = parse_decimal("amount", number)
    except InvalidOrder:
        return
    assert float(read) == number
    assert read == Decimal(str(number))


@given(number=st.integers())
def test_whole_numbers_of_any_size_are_exact_or_refused(number: int) -> None:
    """Also those far beyond what a float could hold."""
    try:
        assert parse_decimal("amount", number) == number
    except InvalidOrder:
        assert number <= 0 or number >= 10**15


digits_and_signs = st.text(alphabet="0019 .-+eE_x٣\n", max_size=34)
part = st.builds(
    lambda length, digits: (digits * 20)[:length],
    st.sampled_from([0, 1, 9, 10, 17, 18, 19, 20]),
    st.sampled_from(["1", "10", "01", "0", "100", "9"]),
)
written = st.builds("{}{}{}".format, part, st.sampled_from([".", ".", ""]), part)
anything = st.one_of(
    written, written, digits_and_signs, st.floats(), st.integers(), st.decimals(), part.map("1{}".format).map(int)
)


def reading(read: Callable[[str, object], Decimal], value: object) -> object:
    """What a number is read as, digit by digit, or what is said against it."""
    try:
        return read("amount", value).as_tuple()
    except InvalidOrder as error:
        return str(error)


@example(value="1" * 19)
@example(value=10**18)
@example(value="0." + "0" * 18 + "1")
@example(value="1" * 15 + "." + "1" * 15)
@given(value=anything)
def test_the_quick_look_reads_what_the_careful_one_reads(value: object) -> None:
    """The same number with the same digits, or the same refusal in the same words, whatever the type."""
    forms = [value, str(value)]
    with suppress(InvalidOperation):
        forms.append(Decimal(str(value).strip()))
    for form in forms:
        assert reading(parse_decimal, form) == reading(_parse_any, form)


@given(
    multiple=st.integers(1, 10**9), step=steps, off=st.booleans(), price_multiple=st.integers(1, 10**9), tick=steps
)
def test_steps_are_kept_exactly_and_never_made_by_rounding(
    multiple: int, step: Decimal, off: bool, price_multiple: int, tick: Decimal
) -> None:
    """A multiple passes unchanged; anything else is refused with the field's name."""
    amount, price = multiple * step, price_multiple * tick
    if off:
        amount += step / 2
    market = Market(symbol="A/B", base="A", quote="B", price_tick=tick, amount_step=step)
    request = OrderRequest("o", "A/B", Side.BUY, OrderType.LIMIT, amount, price)
    try:
        quantised = quantise(request, market)
    except InvalidOrder as error:
        assert off
        assert error.field == "amount"
        return
    assert not off
    assert (quantised.amount, quantised.price) == (amount, price)


amounts = st.decimals(min_value=Decimal("0.0001"), max_value=Decimal(10_000), places=4)
prices = st.decimals(min_value=Decimal("0.01"), max_value=Decimal(100_000), places=2)


@given(trades=st.lists(st.tuples(amounts, prices), min_size=1, max_size=30))
def test_the_average_price_lies_between_the_prices_and_gives_the_cost_back(
    trades: list[tuple[Decimal, Decimal]],
) -> None:
    """Volume-weighted, to the digits that a decimal has."""
    fills = tuple(Fill(f"T{n}", price, amount, ZERO, "B", AT) for n, (amount, price) in enumerate(trades))
    average = average_price(fills)
    assert average is not None
    low, high = min(price for _, price in trades), max(price for _, price in trades)
    slack = Decimal("1e-18")
    assert low - slack <= average <= high + slack
    with localcontext() as exact:
        exact.prec = 60
        cost = sum((amount * price for amount, price in trades), ZERO)
        volume = sum((amount for amount, _ in trades), ZERO)
        assert abs(average * volume - cost) <= cost * Decimal("1e-26")


@given(fees=st.lists(st.tuples(amounts, st.sampled_from(["A", "B", "C"])), max_size=30))
def test_fees_add_up_by_currency(fees: list[tuple[Decimal, str]]) -> None:
    """Nothing is lost, nothing is mixed."""
    fills = tuple(
        Fill(f"T{n}", Decimal(1), Decimal(1), fee, currency, AT) for n, (fee, currency) in enumerate(fees)
    )
    total = total_fees(fills)
    for currency in ("A", "B", "C"):
        assert total.get(currency, ZERO) == sum((fee for fee, of in fees if of == currency), ZERO)
