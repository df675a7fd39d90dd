"""Sinks deliver an alert or raise; the secrets in their URLs are shown to nobody."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from services.mcp.order_execution.alert_sinks import Alert, AlertSink, AppriseSink, Level, LogSink
from services.mcp.order_execution.errors import ConfigurationError

AT = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = "t0ps3cr3ttoken"


def alert_of(level: Level = Level.ERROR, body: str = "the disk is full") -> Alert:
    return Alert(level, "journal", "the journal failed", body, AT)


class Receiver:
    """A local web server that takes notifications, or refuses them."""

    def __init__(self) -> None:
        self.status = 200
        self.received: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.port = 0
        self.got_one = asyncio.Event()
        self.release: asyncio.Event | None = None

    async def handle(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        self.received.append(await request.json())
        self.got_one.set()
        if self.release is not None:
            await self.release.wait()
        return web.Response(status=self.status)

    def url(self) -> str:
        return f"json://user:{SECRET}@127.0.0.1:{self.port}/{SECRET}"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.port = runner.addresses[0][1]
    yield receiver
    await runner.cleanup()


def join_apprise() -> None:
    for thread in threading.enumerate():
        if thread.name == "apprise":
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    join_apprise()


def test_levels_are_ordered_and_read_well() -> None:
    """So that a minimum can be compared with, and a message names them."""
    assert list(Level) == sorted(Level)
    assert [str(level) for level in Level] == ["info", "warning", "error", "critical"]
    assert Level["WARNING"] == logging.WARNING


@pytest.mark.parametrize("level", Level)
async def test_the_log_sink_logs_at_the_alerts_own_level(level: Level, caplog: pytest.LogCaptureFixture) -> None:
    """Title and body in one line."""
    with caplog.at_level(logging.DEBUG):
        await LogSink(logging.getLogger("mine")).send(alert_of(level))
    assert caplog.record_tuples == [("mine", level, "the journal failed: the disk is full")]


async def test_the_log_sink_needs_no_body_and_no_logger(caplog: pytest.LogCaptureFixture) -> None:
    """A title alone is an alert, too."""
    await LogSink().send(alert_of(body=""))
    assert [record.message for record in caplog.records] == ["the journal failed"]


def test_both_are_sinks() -> None:
    """The contract is the one method."""
    assert isinstance(LogSink(), AlertSink)
    assert isinstance(AppriseSink([]), AlertSink)


@pytest.mark.parametrize(
    ("level", "kind"),
    [(Level.INFO, "info"), (Level.WARNING, "warning"), (Level.ERROR, "failure"), (Level.CRITICAL, "failure")],
)
async def test_apprise_delivers(receiver: Receiver, level: Level, kind: str) -> None:
    """Over its real plugin and a real HTTP request."""
    await AppriseSink([receiver.url()]).send(alert_of(level))
    (message,) = receiver.received
    assert message["title"] == f"[{level}] the journal failed"
    assert message["message"] == "the disk is full"
    assert message["type"] == kind


async def test_an_alert_without_a_body_is_delivered(receiver: Receiver) -> None:
    """Some services refuse an empty message."""
    await AppriseSink([receiver.url()]).send(alert_of(body=""))
    assert receiver.received[0]["message"] == "the journal failed"


async def test_a_service_that_refuses_does_not_keep_the_others_from_theirs(receiver: Receiver) -> None:
    """All are tried; the failure is raised, without any URL in it."""
    sink = AppriseSink(["json://127.0.0.1:9", receiver.url()])
    with pytest.raises(ConnectionError, match="1 of 2 services did not take the alert") as caught:
        await sink.send(alert_of())
    assert SECRET not in str(caught.value)
    assert len(receiver.received) == 1
    receiver.status = 500
    with pytest.raises(ConnectionError, match="2 of 2"):
        await sink.send(alert_of())


async def test_the_secrets_of_urls_are_in_no_log_at_any_level(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither Apprise's nor urllib3's loggers show them, with success or failure, even at debug level."""
    with caplog.at_level(1):
        for name in ("apprise", "urllib3", "urllib3.connectionpool"):
            caplog.set_level(1, name)
        sink = AppriseSink([receiver.url()])
        await sink.send(alert_of())
        receiver.status = 500
        with pytest.raises(ConnectionError):
            await sink.send(alert_of())
        with pytest.raises(ConfigurationError):
            AppriseSink([f"nonsense://{SECRET}"])
        with pytest.raises(ConfigurationError):
            AppriseSink([f"tgram://{SECRET}"])
    assert SECRET not in caplog.text
    assert SECRET not in repr(sink)
    assert SECRET not in str(vars(sink))
    assert receiver.paths == [f"/{SECRET}"] * 2


async def test_other_users_of_apprise_keep_their_log(caplog: pytest.LogCaptureFixture) -> None:
    """Only what is called from here is kept quiet."""
    AppriseSink([])
    logging.getLogger("apprise").warning("somebody else's")
    assert "somebody else's" in caplog.text


@pytest.mark.parametrize("url", ["nonsense", f"unknown://{SECRET}", "", f"tgram://{SECRET}"])
def test_a_url_that_apprise_does_not_understand_is_a_configuration_error(url: str) -> None:
    """It is named by its place and not shown."""
    with pytest.raises(ConfigurationError, match=r"alerts.urls\[1\]: expected a URL") as caught:
        AppriseSink(["json://127.0.0.1", url])
    assert caught.value.field == "alerts.urls"
    assert SECRET not in str(caught.value)


def test_without_apprise_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is optional."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'reliable-order-execution\[alerts\]'"):
        AppriseSink(["json://127.0.0.1"])


async def test_a_service_that_hangs_is_not_called_a_second_time_meanwhile(receiver: Receiver) -> None:
    """A sender that gave up leaves its thread behind; the next alert does not add another."""
    receiver.release = asyncio.Event()
    sink = AppriseSink([receiver.url()])
    first = asyncio.create_task(sink.send(alert_of()))
    await receiver.got_one.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    with pytest.raises(ConnectionError, match="1 of 1"):
        await sink.send(alert_of())
    assert len(receiver.received) == 1
    receiver.release.set()
    await asyncio.to_thread(join_apprise)
    await sink.send(alert_of())
    assert len(receiver.received) == 2


async def test_a_plugin_that_raises_counts_as_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Apprise does, its words stay inside: they may show the URL."""
    sink = AppriseSink(["json://127.0.0.1"])

    def explode(**message: str) -> bool:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(sink._services[0], "_notify", explode)
    with pytest.raises(ConnectionError, match="1 of 1") as caught:
        await sink.send(alert_of())
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_call_that_outlives_its_loop_ends_quietly() -> None:
    """The thread has nobody to tell any more."""
    go_on = threading.Event()
    sink = AppriseSink(["json://127.0.0.1"])

    def wait(**message: str) -> bool:
        return go_on.wait(30)

    sink._services[0]._notify = wait

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await sink.send(alert_of())

    asyncio.run(give_up())
    go_on.set()
