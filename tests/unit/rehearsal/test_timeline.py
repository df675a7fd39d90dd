"""The picture of a rehearsal is well-formed and shows what it should."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from services.mcp.order_execution.rehearsal.timeline import draw_timeline

SVG = "{http://www.w3.org/2000/svg}"


def order(*moments: tuple[float, str], name: str = "a") -> dict[str, Any]:
    shown = [{"at": at, "what": "x", "state": state, "detail": None} for at, state in moments]
    return {"order_id": name, "purpose": "market <&>", "moments": shown}


def drawn(*orders: dict[str, Any], outages: tuple[tuple[float, float], ...] = (), seconds: float = 10.0) -> Any:
    return ElementTree.fromstring(draw_timeline(orders, outages, seconds))


def fills(picture: Any, tag: str) -> list[str]:
    return [item.get("fill") for item in picture.iter(tag)]


def test_an_order_is_a_line_of_its_states_and_a_dot_at_its_end() -> None:
    """Each state has its colour for as long as it lasted; the end is a dot where it became final."""
    picture = drawn(order((0, "sending"), (2, "unknown"), (4, "open"), (8, "filled"), (9, "filled")))
    assert fills(picture, "rect") == ["var(--sending)", "var(--unknown)", "var(--open)"]
    widths = [float(item.get("width")) for item in picture.iter("rect")]
    assert widths[0] == widths[1] == widths[2] / 2
    (dot,) = picture.iter("circle")
    assert dot.get("fill") == "var(--filled)"
    assert float(dot.get("cx")) == round(8 + 1064 * 0.8, 1)


def test_an_order_that_rests_goes_on_to_the_end() -> None:
    """No dot, and the last state lasts until the picture ends."""
    picture = drawn(order((0, "open")))
    assert [float(item.get("width")) for item in picture.iter("rect")] == [1064.0]
    assert list(picture.iter("circle")) == []


def test_an_order_that_started_afresh_ends_where_it_ended_last() -> None:
    """Its first end, after which it began anew, is no end."""
    picture = drawn(order((0, "sending"), (1, "expired"), (5, "sending"), (6, "filled")))
    (dot,) = picture.iter("circle")
    assert float(dot.get("cx")) == round(8 + 1064 * 0.6, 1)


def test_outages_are_shaded_within_the_picture() -> None:
    """An outage that outlasts the rehearsal ends with it."""
    picture = drawn(order((0, "open")), outages=((8, 99),))
    shade = next(item for item in picture.iter("rect") if item.get("fill") == "var(--shade)")
    assert float(shade.get("width")) == round(1064 * 0.2, 1)


def test_names_are_escaped_and_orders_without_events_left_out() -> None:
    """What a name holds cannot become markup."""
    picture = drawn(order((0, "open"), name="<b>"), order(name="never sent"))
    titles = [item.text for item in picture.iter("title")]
    assert titles == ["<b>: market <&>, open"]


def test_nothing_at_all_can_be_drawn() -> None:
    """A rehearsal that was over at once has a picture too."""
    assert list(drawn(seconds=0.0).iter("circle")) == []


def test_the_axis_keeps_to_a_dozen_ticks() -> None:
    """However long it took."""
    for seconds in (1.0, 12.0, 45.0, 600.0, 5_000.0):
        assert 1 <= len(list(drawn(seconds=seconds).iter("line"))) <= 13
