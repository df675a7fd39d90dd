"""Alerts are raised without waiting; people get each matter once, soon, and never a flood."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from services.mcp.order_execution import alerts as module
from services.mcp.order_execution.alerts import Alert, Alerts, AlertSink, Level
from services.mcp.order_execution.clock import SystemClock
from tests.fakes import RecordingSink
from tests.virtual_time import EPOCH, START, VirtualClock, run_virtual

SECRET = "t0ps3cr3t"


class HangingSink:
    """Takes an alert and never comes back, unless it is released."""

    def __init__(self) -> None:
        self.taken: list[Alert] = []
        self.release = asyncio.Event()

    async def send(self, alert: Alert) -> None:
        self.taken.append(alert)
        await self.release.wait()


class FailingSink:
    """Raises an error whose message holds a secret, until it is mended."""

    def __init__(self) -> None:
        self.broken = True
        self.calls = 0

    async def send(self, alert: Alert) -> None:
        self.calls += 1
        if self.broken:
            raise ConnectionError(f"https://hooks.example/{SECRET}")


class StubbornSink:
    """Does not let itself be cancelled."""

    async def send(self, alert: Alert) -> None:
        for _ in range(100):
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                continue


def alerts_to(*sinks: AlertSink, **options: Any) -> Alerts:
    return Alerts(sinks, VirtualClock(), **{"min_level": Level.INFO, **options})


def titles(sink: RecordingSink) -> list[str]:
    return [alert.title for alert in sink.alerts]


def virtual(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_virtual(main)


def test_an_alert_reaches_every_sink_with_its_time() -> None:
    """At once, in the background."""

    async def main() -> None:
        sinks = RecordingSink(), RecordingSink()
        alerts = alerts_to(*sinks)
        alerts.start()
        await asyncio.sleep(5)
        alerts.raise_alert(Level.ERROR, "journal", "the journal failed", "disk full")
        assert sinks[0].alerts == []
        await asyncio.sleep(0.001)
        expected = Alert(Level.ERROR, "journal", "the journal failed", "disk full", EPOCH + timedelta(seconds=5))
        assert sinks[0].alerts == sinks[1].alerts == [expected]
        await alerts.close()

    virtual(main)


def test_what_is_below_the_minimum_is_not_sent() -> None:
    """The default is warning."""

    async def main() -> None:
        sink = RecordingSink()
        alerts = Alerts([sink], VirtualClock())
        alerts.start()
        for level in Level:
            alerts.raise_alert(level, str(level), str(level))
        await alerts.close()
        assert titles(sink) == ["critical", "error", "warning"]

    virtual(main)


def test_the_same_matter_is_sent_once_in_the_interval_and_then_tells_how_often_it_came() -> None:
    """De-duplication by key; other keys are not touched."""

    async def main() -> None:
        sink = RecordingSink()
        alerts = alerts_to(sink, min_interval_seconds=300)
        alerts.start()
        for _ in range(5):
            alerts.raise_alert(Level.ERROR, "same", "it failed", "why")
        alerts.raise_alert(Level.ERROR, "other", "another")
        await asyncio.sleep(299)
        alerts.raise_alert(Level.ERROR, "same", "it failed")
        await asyncio.sleep(1)
        alerts.raise_alert(Level.ERROR, "same", "it failed", "why")
        alerts.raise_alert(Level.ERROR, "other", "another")
        await alerts.close()
        assert [(alert.title, alert.body) for alert in sink.alerts] == [
            ("it failed", "why"),
            ("another", ""),
            ("it failed", "why (5 more of this were suppressed before)"),
            ("another", ""),
        ]

    virtual(main)


def test_a_note_stands_alone_where_there_is_no_body() -> None:
    """No empty brackets."""

    async def main() -> None:
        sink = RecordingSink()
        alerts = alerts_to(sink)
        alerts.start()
        alerts.raise_alert(Level.ERROR, "same", "it failed")
        alerts.raise_alert(Level.ERROR, "same", "it failed")
        await asyncio.sleep(300)
        alerts.raise_alert(Level.ERROR, "same", "it failed")
        await alerts.close()
        assert sink.alerts[-1].body == "1 more of this were suppressed before"

    virtual(main)


def test_a_matter_that_has_become_graver_is_told_at_once() -> None:
    """De-duplication never hides an escalation; a lesser level stays suppressed."""

    async def main() -> None:
        sink = RecordingSink()
        alerts = alerts_to(sink)
        alerts.start()
        for level in (Level.WARNING, Level.CRITICAL, Level.ERROR, Level.WARNING):
            alerts.raise_alert(level, "same", str(level))
        await alerts.close()
        assert sorted(titles(sink)) == ["critical", "warning"]

    virtual(main)


def test_a_cleared_matter_is_told_again_at_once() -> None:
    """Clearing re-arms it, and does not lose the count of what was suppressed."""

    async def main() -> None:
        sink = RecordingSink()
        alerts = alerts_to(sink)
        alerts.start()
        alerts.clear("never heard of")
        alerts.raise_alert(Level.ERROR, "same", "one")
        alerts.raise_alert(Level.ERROR, "same", "suppressed")
        alerts.clear("same")
        alerts.raise_alert(Level.ERROR, "same", "two")
        await alerts.close()
        assert titles(sink) == ["one", "two"]
        assert sink.alerts[1].body == "1 more of this were suppressed before"

    virtual(main)


def test_no_more_than_the_rate_is_sent_and_the_gravest_first() -> None:
    """What is beyond waits for its turn; a critical alert passes those that wait."""

    async def main() -> None:
        sink = RecordingSink()
        alerts = alerts_to(sink, max_per_minute=3)
        alerts.start()
        for number in range(7):
            alerts.raise_alert(Level.WARNING, f"k{number}", f"w{number}")
        await asyncio.sleep(30)
        assert titles(sink) == ["w0", "w1", "w2"]
        alerts.raise_alert(Level.CRITICAL, "grave", "critical")
        await asyncio.sleep(29)
        assert len(sink.alerts) == 3
        await asyncio.sleep(1.001)
        assert titles(sink)[3:] == ["critical", "w3", "w4"]
        await asyncio.sleep(60)
        assert titles(sink)[6:] == ["w5", "w6"]
        assert alerts.waiting == 0
        await alerts.close()

    virtual(main)


def test_a_full_queue_drops_the_oldest_of_the_least_grave_and_says_so() -> None:
    """Counted, and told with the next alert that is sent."""

    async def main() -> None:
        sink = RecordingSink()
        alerts = alerts_to(sink, max_queue=3)
        alerts.raise_alert(Level.CRITICAL, "c", "critical")
        for number in range(5):
            alerts.raise_alert(Level.WARNING, f"k{number}", f"w{number}")
        assert (alerts.waiting, alerts.dropped) == (3, 3)
        alerts.start()
        await alerts.close()
        assert titles(sink) == ["critical", "w3", "w4"]
        assert [alert.body for alert in sink.alerts] == ["3 other alerts were dropped before", "", ""]

    virtual(main)


def test_what_is_raised_before_the_start_is_sent_then() -> None:
    """Trouble while starting is told, too; starting twice changes nothing."""

    async def main() -> None:
        sink = RecordingSink()
        alerts = alerts_to(sink)
        alerts.raise_alert(Level.ERROR, "early", "early")
        alerts.start()
        alerts.start()
        await asyncio.sleep(0.001)
        assert titles(sink) == ["early"]
        await alerts.close()

    virtual(main)


def test_a_sink_that_hangs_holds_up_nobody_else() -> None:
    """Each has a sender of its own, and each send a time-out."""

    async def main() -> None:
        hanging, recording = HangingSink(), RecordingSink()
        alerts = alerts_to(hanging, recording, send_timeout_seconds=15)
        alerts.start()
        alerts.raise_alert(Level.ERROR, "one", "one")
        alerts.raise_alert(Level.ERROR, "two", "two")
        await asyncio.sleep(1)
        assert titles(recording) == ["one", "two"]
        assert [alert.title for alert in hanging.taken] == ["one"]
        await asyncio.sleep(15)
        assert [alert.title for alert in hanging.taken] == ["one", "two"]
        assert alerts.failures == 1
        hanging.release.set()
        await alerts.close()

    virtual(main)


def test_a_sink_that_fails_harms_nobody_and_its_secrets_stay_in(caplog: pytest.LogCaptureFixture) -> None:
    """Its failures are counted, and logged once until it works again, by type and without the message."""

    async def main() -> None:
        failing, recording = FailingSink(), RecordingSink()
        alerts = alerts_to(failing, recording)
        alerts.start()
        for number in range(3):
            alerts.raise_alert(Level.ERROR, f"k{number}", f"a{number}")
        await asyncio.sleep(0.001)
        failing.broken = False
        alerts.raise_alert(Level.ERROR, "fine", "fine")
        await asyncio.sleep(0.001)
        failing.broken = True
        alerts.raise_alert(Level.ERROR, "again", "again")
        await alerts.close()
        assert (failing.calls, alerts.failures, len(recording.alerts)) == (5, 4, 5)

    virtual(main)
    assert [record.message for record in caplog.records] == ["FailingSink failed to send: ConnectionError"] * 2


def test_closing_sends_what_waits() -> None:
    """A last word before the end is not lost; closing again, or unopened, is harmless."""

    async def main() -> None:
        sink = RecordingSink()
        alerts = alerts_to(sink)
        await alerts.close()
        alerts.start()
        alerts.raise_alert(Level.ERROR, "last", "last")
        await alerts.close()
        assert titles(sink) == ["last"]
        await alerts.close()
        alerts.raise_alert(Level.ERROR, "later", "later")
        alerts.start()
        await alerts.close()
        assert titles(sink) == ["last", "later"]

    virtual(main)


def test_closing_does_not_wait_for_the_rate_nor_for_a_sink_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    """Within its deadline; what was not sent is counted and said."""

    async def main() -> None:
        recording, hanging = RecordingSink(), HangingSink()
        alerts = alerts_to(recording, hanging, max_per_minute=2, close_timeout_seconds=5)
        alerts.start()
        for number in range(6):
            alerts.raise_alert(Level.ERROR, f"k{number}", f"a{number}")
        await asyncio.sleep(1)
        before = asyncio.get_running_loop().time()
        await alerts.close()
        assert asyncio.get_running_loop().time() - before <= 5
        assert titles(recording) == ["a0", "a1"]
        assert alerts.dropped == 4 + 6
        assert alerts.waiting == 0

    virtual(main)
    assert "4 alerts were not sent by RecordingSink" in caplog.text
    assert "6 alerts were not sent by HangingSink" in caplog.text


def test_closing_while_the_rate_is_waited_for_ends_at_once() -> None:
    """The wait for the rate is cut short."""

    async def main() -> None:
        sink = RecordingSink()
        alerts = alerts_to(sink, max_per_minute=1)
        alerts.start()
        alerts.raise_alert(Level.ERROR, "one", "one")
        alerts.raise_alert(Level.ERROR, "two", "two")
        await asyncio.sleep(1)
        await alerts.close()
        assert asyncio.get_running_loop().time() == START + 1
        assert (titles(sink), alerts.dropped) == (["one"], 1)

    virtual(main)


def test_closing_is_bounded_even_with_a_sink_that_refuses_to_end() -> None:
    """Deadline plus a second of grace."""

    async def main() -> None:
        alerts = alerts_to(StubbornSink(), close_timeout_seconds=5)
        alerts.start()
        alerts.raise_alert(Level.ERROR, "one", "one")
        await asyncio.sleep(1)
        await alerts.close()
        assert asyncio.get_running_loop().time() <= START + 1 + 5 + 1
        for task in asyncio.all_tasks() - {asyncio.current_task()}:  # the test cleans up after the sink
            await asyncio.wait([task])

    virtual(main)


def test_raising_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    """Neither for a clock that fails nor for nonsense: whoever raises an alert has trouble enough."""

    class BrokenClock(SystemClock):
        def monotonic(self) -> float:
            raise OSError(SECRET)

    Alerts([RecordingSink()], BrokenClock()).raise_alert(Level.ERROR, "key", "title")
    Alerts([RecordingSink()], SystemClock()).raise_alert("loud", "key", "title")  # type: ignore[arg-type]
    Alerts([], SystemClock()).raise_alert(Level.ERROR, "key", "title")
    assert [record.message for record in caplog.records] == [
        "an alert could not be raised: OSError",
        "an alert could not be raised: TypeError",
    ]


def test_an_alert_for_a_loop_that_is_gone_raises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It stays in the queue, and the log says so."""
    alerts = Alerts([RecordingSink()], SystemClock())

    async def start_only() -> None:
        alerts.start()

    asyncio.run(start_only())
    alerts.raise_alert(Level.ERROR, "key", "title")
    assert alerts.waiting == 1
    assert "a loop that is closed" in caplog.text


async def test_alerts_may_come_from_any_thread() -> None:
    """A synchronous function under alert_on_failure may run anywhere."""
    got = asyncio.Event()

    class Sink:
        async def send(self, alert: Alert) -> None:
            got.set()

    alerts = Alerts([Sink()], SystemClock())
    alerts.start()
    await asyncio.sleep(0)
    thread = threading.Thread(target=alerts.raise_alert, args=(Level.ERROR, "key", "title"))
    thread.start()
    async with asyncio.timeout(30):
        await got.wait()
    thread.join()
    await alerts.close()


def test_keys_are_remembered_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """One key for each order must not fill the memory; the oldest is forgotten, and told anew."""
    monkeypatch.setattr(module, "KEYS_MAX", 10)

    async def main() -> None:
        sink = RecordingSink()
        alerts = alerts_to(sink, max_per_minute=1_000)
        alerts.start()
        for number in range(11):
            alerts.raise_alert(Level.ERROR, f"k{number}", "x")
        assert len(alerts._matters) == 10
        alerts.raise_alert(Level.ERROR, "k10", "suppressed")
        alerts.raise_alert(Level.ERROR, "k0", "forgotten, so told anew")
        await alerts.close()
        assert len(sink.alerts) == 12

    virtual(main)
