"""The report of a rehearsal says what happened, and nothing in it comes from elsewhere."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution.rehearsal.record import Answer, Verdict
from services.mcp.order_execution.rehearsal.report import build_report, count, render, write_report

RECONCILIATION = {
    "total_orders": 2,
    "matched_orders": 2,
    "mismatched_orders": 0,
    "missing_orders": 0,
    "extra_orders": 0,
    "unresolved_orders": 0,
    "repaired": 0,
    "details": [],
}


def verdict(**found: Any) -> Verdict:
    nothing: dict[str, Any] = {"doubled": (), "lost": (), "misjudged": (), "unresolved": (), "discrepancies": 0}
    return Verdict(**{**nothing, **found})


@pytest.fixture
def report(desk: Any) -> dict[str, Any]:
    return make(desk, verdict())


def make(desk: Any, outcome: Verdict, reconciliation: dict[str, Any] = RECONCILIATION) -> dict[str, Any]:
    refused = desk.trace("b", Answer.REFUSED)
    refused.answers = [
        (1.0, Answer.NOT_SENT, "open"),
        (2.0, Answer.NOT_SENT, "open"),
        (3.0, Answer.REFUSED, "<i>no</i>"),
    ]
    return build_report(
        facts={
            "started_at": "2026-01-01T00:00:00+00:00",
            "seconds": 5.0,
            "seed": 1,
            "concurrency": 2,
            "exchange": "the paper exchange",
            "faults": {"lost reply": "10% of requests"},
            "outages": [[1.0, 2.0]],
            "files": {"journal": "/x/journal.db"},
        },
        traces=[desk.lived("a"), refused],
        verdict=outcome,
        reconciliation=reconciliation,
        stats={},
    )


class Page(HTMLParser):
    """Collects what a browser would show, and what it would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "action")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_counts_add_up(desk: Any, report: dict[str, Any]) -> None:
    """Each order is counted once by its last answer; repeated calls, resends and doubts stand beside."""
    counts = report["counts"]
    assert (counts["orders"], counts["accepted"], counts["refused here"], counts["not sent"]) == (2, 1, 1, 0)
    assert (counts["calls repeated"], counts["sent again"], counts["fate unknown for a while"]) == (2, 1, 1)
    assert [counts[name] for name in ("still unknown", "doubled", "lost", "misjudged")] == [0, 0, 0, 0]
    assert count([], verdict(doubled=("a", "b"), lost=("c",)))["doubled"] == 2


def test_the_page_needs_nothing_from_elsewhere(report: dict[str, Any]) -> None:
    """No script, no link, no font: it can be kept and mailed."""
    page = Page(render(report))
    assert page.fetched == []
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "url(" not in render(report)


def test_the_page_tells_each_order_s_story(report: dict[str, Any]) -> None:
    """Times, what happened, and what the caller was told, equal answers in a row together."""
    shown = "\n".join(Page(render(report)).text)
    assert "Every order is accounted for" in shown
    assert "1.000 s\nunknown\nunknown · no answer <within> 2 s" in shown
    assert "not sent ×2 → refused here" in shown
    assert "/x/journal.db" in shown


def test_words_from_outside_cannot_become_markup(report: dict[str, Any]) -> None:
    """An exchange's words are shown as they are."""
    page = render(report)
    assert "<i>no</i>" not in page
    assert "<i>no</i>" in "".join(Page(page).text)


def test_a_broken_promise_stands_at_the_top(desk: Any) -> None:
    """What is wrong is said first, in red, with the reconciliation's findings below."""
    details = [{"kind": "extra", "order_id": "c", "differences": {"state": ["open", "filled"]}}]
    outcome = verdict(lost=("c",), discrepancies=1)
    report = make(desk, outcome, {**RECONCILIATION, "extra_orders": 1, "details": details})
    page = render(report)
    assert not report["ok"]
    assert 'class="verdict bad">Not everything is accounted for: 0 doubled, 1 lost' in page
    assert "extra" in page


def test_both_files_are_written(report: dict[str, Any], tmp_path: Path) -> None:
    """The page for people, and the same for programs."""
    page, data = write_report(report, tmp_path)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads(data.read_text(encoding="utf-8")) == json.loads(json.dumps(report))
