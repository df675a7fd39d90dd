"""What an alert is, and where alerts go: the log, and over Apprise whatever people read."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from threading import Thread
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

_TELL_TALES: Final = ("apprise", "urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry")
"""Loggers that show URLs, at debug level in full: for most services the URL is the secret."""

_quiet: ContextVar[bool] = ContextVar("order_execution_apprise_quiet", default=False)


class Level(IntEnum):
    """How grave it is; the values are those of :mod:`logging`."""

    INFO = logging.INFO
    WARNING = logging.WARNING
    ERROR = logging.ERROR
    CRITICAL = logging.CRITICAL

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Alert:
    """One message. ``key`` names the matter: what has the same key is the same matter again."""

    level: Level
    key: str
    title: str
    body: str
    at: datetime


@runtime_checkable
class AlertSink(Protocol):
    """Where alerts go. To add one, write a class with this method and give it to :class:`Alerts`."""

    async def send(self, alert: Alert) -> None:
        """Deliver one alert, or raise; it is cancelled when it takes too long. Called one at a time."""
        ...


class LogSink:
    """Writes alerts to a logger, each with its own level."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger(f"{__name__}.sent")

    async def send(self, alert: Alert) -> None:
        """Log it."""
        body = f": {alert.body}" if alert.body else ""
        self._logger.log(alert.level, "%s%s", alert.title, body)


class AppriseSink:
    """Sends alerts over Apprise: mail, Telegram, Slack and many more (needs the extra ``alerts``).

    Its URLs hold secrets: they appear in no message, no repr and, even at debug level, in no log of Apprise.
    Raises ConfigurationError when Apprise is not installed or does not understand a URL.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        apprise = _import_apprise()
        for name in _TELL_TALES:
            logging.getLogger(name).addFilter(_unless_quiet)  # adding it again changes nothing
        self._services: list[_Service] = []
        for index, url in enumerate(urls):
            # One object each, without a thread pool of Apprise's: a service that hangs delays no other.
            notifier = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False))
            with _silence(), warnings.catch_warnings():
                # The first URL loads every plug-in; what they import that is deprecated concerns nobody here.
                warnings.simplefilter("ignore", DeprecationWarning)
                understood = notifier.add(url)
            if not understood:
                raise ConfigurationError(
                    f"alerts.urls[{index}]: expected a URL that Apprise understands", field="alerts.urls"
                )
            self._services.append(_Service(notifier.notify))

    def __repr__(self) -> str:
        return f"AppriseSink({len(self._services)} services)"

    async def send(self, alert: Alert) -> None:
        """Send it to every service at once. Raises ConnectionError when one of them did not take it."""
        message = {
            "title": f"[{alert.level}] {alert.title}",
            "body": alert.body or alert.title,
            "notify_type": _NOTIFY_TYPES[alert.level],
        }
        taken = await asyncio.gather(*(service.send(message) for service in self._services))
        if not all(taken):
            raise ConnectionError(f"{taken.count(False)} of {len(taken)} services did not take the alert")


_NOTIFY_TYPES: Final = {
    Level.INFO: "info",
    Level.WARNING: "warning",
    Level.ERROR: "failure",
    Level.CRITICAL: "failure",
}


class _Service:
    """One Apprise URL. A call blocks, so it has a thread; a daemon, which holds no exit up."""

    def __init__(self, notify: Callable[..., object]) -> None:
        self._notify = notify
        self._busy = False

    async def send(self, message: dict[str, str]) -> bool:
        """True when the service took it. A call that still hangs leaves no second one beside it."""
        if self._busy:
            return False
        self._busy = True
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()

        def settle(taken: bool) -> None:
            if not answer.done():
                answer.set_result(taken)

        def run() -> None:
            taken = False
            try:
                with _silence():
                    taken = bool(self._notify(**message))
            except Exception:  # noqa: BLE001 - a plug-in of Apprise; what it raised may show the URL
                taken = False
            finally:
                self._busy = False
            with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
                loop.call_soon_threadsafe(settle, taken)

        Thread(target=copy_context().run, args=(run,), name="apprise", daemon=True).start()
        return await answer


def _unless_quiet(record: logging.LogRecord) -> bool:
    return not _quiet.get()


@contextmanager
def _silence() -> Iterator[None]:
    """Keep Apprise, as called from here, out of the log; other users of it in the process are not touched."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def _import_apprise() -> ModuleType:
    try:
        import apprise  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        raise ConfigurationError(
            "alerts.urls: Apprise is not installed; pip install 'reliable-order-execution[alerts]'",
            field="alerts.urls",
        ) from error
    module: ModuleType = apprise
    return module
