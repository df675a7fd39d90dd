"""The report of a rehearsal: ``report.json`` for programs and a self-contained ``report.html`` for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from ..models import OrderState, to_plain
from .record import Answer, Trace, Verdict
from .timeline import COLOURS, draw_timeline


def count(traces: Sequence[Trace], verdict: Verdict) -> dict[str, int]:
    """Sum the rehearsal up, in the words and the order of its summary."""
    answers = Counter(trace.answer for trace in traces)
    return {
        "orders": len(traces),
        "accepted": answers[Answer.ACCEPTED],
        "rejected by the exchange": answers[Answer.REJECTED],
        "never arrived": answers[Answer.NEVER_ARRIVED],
        "refused here": answers[Answer.REFUSED],
        "not sent": answers[Answer.NOT_SENT],
        "calls repeated": sum(max(0, len(trace.answers) - 1) for trace in traces),
        "sent again": sum(trace.resends for trace in traces),
        "fate unknown for a while": sum(trace.was_unknown for trace in traces),
        "still unknown": len(verdict.unresolved),
        "doubled": len(verdict.doubled),
        "lost": len(verdict.lost),
        "misjudged": len(verdict.misjudged),
    }


def build_report(
    *,
    facts: Mapping[str, Any],
    traces: Sequence[Trace],
    verdict: Verdict,
    reconciliation: Mapping[str, Any],
    stats: Mapping[str, Any],
) -> dict[str, Any]:
    """Put everything into JSON-ready values; ``facts`` tell seed, times, faults and where the files lie."""
    return {
        **to_plain(facts),
        "ok": verdict.ok,
        "counts": count(traces, verdict),
        "verdict": to_plain(verdict),
        "reconciliation": reconciliation,
        "stats": stats,
        "orders": [_order(trace) for trace in traces],
    }


def _order(trace: Trace) -> dict[str, Any]:
    return {
        "order_id": trace.planned.order_id,
        "purpose": trace.planned.purpose.value,
        "params": to_plain(trace.planned.params),
        "answers": [
            {"at": round(at, 3), "answer": answer.value, "words": words} for at, answer, words in trace.answers
        ],
        "order": None if trace.order is None else trace.order.to_dict(),
        "moments": [
            {
                "at": round(moment.at, 3),
                "what": moment.what,
                "state": None if moment.state is None else moment.state.value,
                "detail": moment.detail,
            }
            for moment in trace.moments
        ],
    }


def write_report(report: Mapping[str, Any], directory: Path) -> tuple[Path, Path]:
    """Write ``report.html`` and ``report.json`` and return their paths, in this order."""
    page, data = directory / "report.html", directory / "report.json"
    data.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    page.write_text(render(report), encoding="utf-8")
    return page, data


def render(report: Mapping[str, Any]) -> str:
    """Write the page. It needs nothing from anywhere else: no script, no font, no link."""
    style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    body = "\n".join(
        (
            _head(report),
            _tiles(report["counts"]),
            _timeline(report),
            _faults(report),
            _reconciliation(report["reconciliation"]),
            _orders(report["orders"]),
            _files(report["files"]),
        )
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Rehearsal of bad days</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def _head(report: Mapping[str, Any]) -> str:
    verdict = report["verdict"]
    if report["ok"]:
        words, kind = "Every order is accounted for: none lost, none doubled, none guessed.", "good"
    else:
        found = [f"{len(verdict[name])} {name}" for name in ("doubled", "lost", "misjudged", "unresolved")]
        words, kind = f"Not everything is accounted for: {', '.join(found)}.", "bad"
        words += f" The reconciliation found {verdict['discrepancies']} discrepancies."
    began = report["started_at"][:19].replace("T", " ")
    terms = f"{report['seconds']:.1f} s, seed {report['seed']}, {report['concurrency']} orders at a time"
    return (
        "<h1>Rehearsal of bad days</h1>\n"
        f'<p class="soft">{escape(began)} UTC, {terms}, on {escape(report["exchange"])}</p>\n'
        f'<div class="verdict {kind}">{escape(words)}</div>'
    )


def _tiles(counts: Mapping[str, int]) -> str:
    must_be_zero = {"still unknown", "doubled", "lost", "misjudged"}
    tiles = []
    for name, number in counts.items():
        kind = "" if name not in must_be_zero else " bad" if number else " good"
        tiles.append(f'<div class="tile{kind}"><b>{number}</b><span>{escape(name)}</span></div>')
    return '<div class="tiles">' + "".join(tiles) + "</div>"


def _timeline(report: Mapping[str, Any]) -> str:
    legend = "".join(f'<span><i style="background:{COLOURS[state]}"></i>{state}</span>' for state in _SHOWN)
    return (
        "<h2>Every order over time</h2>\n"
        '<p class="soft">One line per order, from its intent to its end (the dot). Amber is the time in which '
        "nobody could know whether the exchange had it; red shading is when the exchange answered nobody.</p>\n"
        f'<div class="card"><div class="legend">{legend}</div>\n'
        f"{draw_timeline(report['orders'], report['outages'], report['seconds'])}</div>"
    )


_SHOWN = [state for state in OrderState if state is not OrderState.PENDING]


def _faults(report: Mapping[str, Any]) -> str:
    rows = [(escape(name), escape(str(value))) for name, value in report["faults"].items()]
    return f'<h2>What was done to it</h2>\n<div class="card">{_table(("fault", "setting"), rows)}</div>'


def _reconciliation(outcome: Mapping[str, Any]) -> str:
    names = ("total_orders", "matched_orders", "mismatched_orders", "missing_orders", "extra_orders")
    rows = [
        (escape(name.replace("_", " ")), str(outcome[name])) for name in (*names, "unresolved_orders", "repaired")
    ]
    details = [
        (escape(str(row["kind"])), escape(str(row["order_id"])), escape(str(row["differences"])))
        for row in outcome["details"]
    ]
    found = _table(("kind", "order", "differences"), details) if details else ""
    return f'<h2>Reconciliation at the end</h2>\n<div class="card">{_table(("what", "orders"), rows)}{found}</div>'


def _orders(orders: Sequence[Mapping[str, Any]]) -> str:
    rows = [_order_row(order) for order in orders]
    head = ("order", "purpose", "terms", "what the caller was told", "state", "filled", "sent", "what happened")
    return f'<h2>Orders</h2>\n<div class="card">{_table(head, rows)}</div>'


def _order_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    params, order = entry["params"], entry["order"]
    terms = f"{params['side']} {params['amount']} {params['symbol']} {params['type']}"
    for name in ("price", "stop_price", "time_in_force"):
        if params.get(name) is not None:
            terms += f", {name.replace('_', ' ')} {params[name]}"
    runs = [(answer, len(list(same))) for answer, same in groupby(item["answer"] for item in entry["answers"])]
    told = " → ".join(f"{answer} ×{number}" if number > 1 else answer for answer, number in runs) or "—"
    state = order["state"] if order else None
    badge = f'<span class="state" style="background:{COLOURS[OrderState(state)]}">{state}</span>' if state else "—"
    return (
        f'<span title="{escape(_words(entry))}"><code>{escape(entry["order_id"])}</code></span>',
        escape(entry["purpose"]),
        escape(terms),
        escape(told),
        badge,
        escape(order["filled"]) if order else "—",
        str(order["attempts"]) if order else "0",
        _moments(entry),
    )


def _words(entry: Mapping[str, Any]) -> str:
    return "\n".join(answer["words"] for answer in entry["answers"] if answer["words"])


def _moments(entry: Mapping[str, Any]) -> str:
    moments = entry["moments"]
    if not moments:
        return escape(_words(entry)) or "—"
    lines = "".join(
        f"<li><time>{moment['at']:.3f} s</time><span>{escape(moment['what'])}</span>"
        f"<span>{escape(' · '.join(filter(None, (moment['state'], moment['detail']))))}</span></li>"
        for moment in moments
    )
    return f'<details><summary>{len(moments)} events</summary><ol class="moments">{lines}</ol></details>'


def _files(files: Mapping[str, str]) -> str:
    rows = [(escape(name), f"<code>{escape(path)}</code>") for name, path in files.items()]
    return f'<h2>Where everything lies</h2>\n<div class="card">{_table(("what", "path"), rows)}</div>'


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Lay cells, which are HTML already, out as a table."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>\n{lines}</tbody></table>"
