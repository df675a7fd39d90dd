"""A picture of a rehearsal: one line per order over time, coloured by state, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from ..models import OrderState

COLOURS: Final[Mapping[OrderState, str]] = {state: f"var(--{state.value})" for state in OrderState}

WIDTH: Final = 1080.0
LEFT: Final = 8.0
TOP: Final = 18.0
ROW: Final = 8.0
"""Sizes in the picture's own units."""


def draw_timeline(
    orders: Sequence[Mapping[str, Any]], outages: Sequence[tuple[float, float]], seconds: float
) -> str:
    """Draw the orders of a report that ever got an intent; times are in seconds since the beginning."""
    shown = sorted((order for order in orders if order["moments"]), key=lambda order: order["moments"][0]["at"])
    seconds = max(seconds, 0.001)
    height = TOP + ROW * max(len(shown), 1) + 6
    scale = (WIDTH - 2 * LEFT) / seconds
    parts = [_outage(since, until, seconds, scale, height) for since, until in outages]
    parts += _axis(seconds, scale, height)
    for number, order in enumerate(shown):
        parts.append(_line(order, TOP + ROW * number + ROW / 2, seconds, scale))
    label = "Every order over time, coloured by state"
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{label}">\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def _outage(since: float, until: float, seconds: float, scale: float, height: float) -> str:
    until = min(until, seconds)
    width = max(0.0, until - since) * scale
    return (
        f'<rect x="{LEFT + since * scale:.1f}" y="{TOP - 4:g}" width="{width:.1f}" height="{height - TOP:g}" '
        f'fill="var(--shade)"><title>outage, {since:.1f} s to {until:.1f} s</title></rect>'
    )


def _axis(seconds: float, scale: float, height: float) -> list[str]:
    """Draw a tick at each round number of seconds, a dozen at most."""
    step = next(size for size in (1, 2, 5, 10, 20, 60, 120, 300, 600, 3600, 86400) if seconds / size <= 12)
    ticks = []
    for second in range(0, int(seconds) + 1, step):
        x = LEFT + second * scale
        ticks.append(
            f'<line x1="{x:.1f}" y1="{TOP - 4:g}" x2="{x:.1f}" y2="{height:g}" stroke="var(--line)"/>'
            f'<text x="{x + 2:.1f}" y="10">{second} s</text>'
        )
    return ticks


def _line(order: Mapping[str, Any], y: float, seconds: float, scale: float) -> str:
    moments = order["moments"]
    parts: list[str] = []
    for moment, following in zip(moments, [*moments[1:], None], strict=True):
        state = OrderState(moment["state"])
        end = seconds if following is None else following["at"]
        if not state.is_final and end > moment["at"]:
            x, width = LEFT + moment["at"] * scale, max(0.6, (end - moment["at"]) * scale)
            size = f'x="{x:.1f}" y="{y - 2.5:.1f}" width="{width:.1f}" height="5"'
            parts.append(f'<rect {size} rx="1.5" fill="{COLOURS[state]}"/>')
    last = OrderState(moments[-1]["state"])
    if last.is_final:
        ended = _last_end(moments)
        parts.append(f'<circle cx="{LEFT + ended * scale:.1f}" cy="{y:.1f}" r="3.2" fill="{COLOURS[last]}"/>')
    title = f"{order['order_id']}: {order['purpose']}, {last}"
    return f"<g><title>{escape(title)}</title>{''.join(parts)}</g>"


def _last_end(moments: Sequence[Mapping[str, Any]]) -> float:
    """When the order became final for the last time; one that never left may have started afresh."""
    ended: float = moments[-1]["at"]
    for moment in reversed(moments):
        if not OrderState(moment["state"]).is_final:
            break
        ended = moment["at"]
    return ended
