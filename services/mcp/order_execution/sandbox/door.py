"""Who may come in: both schemes of authentication, permissions, and the ban of addresses that keep failing."""

from __future__ import annotations

import hmac
import re
from collections import deque
from typing import Final

from ..clock import Clock
from .calls import Call, Refusal, Reply, detail, page
from .keys import DemoKeys, signature_holds
from .settings import SandboxSettings

FAILURES_MAX: Final = 100
FAILURES_SECONDS: Final = 1800.0
ADDRESSES_MAX: Final = 1_000
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")
_NO_CREDENTIALS: Final = (
    "\u0627\u0637\u0644\u0627\u0639\u0627\u062a \u0627\u0631\u0633\u0627\u0644 \u0646\u0634\u062f"
)


class Door:
    """Lets calls in. Every failure counts towards the ban of its address."""

    def __init__(self, settings: SandboxSettings, keys: DemoKeys, clock: Clock) -> None:
        self._settings = settings
        self._keys = keys
        self._clock = clock
        self._failures: dict[str, deque[float]] = {}

    def admit(self, call: Call, permission: str) -> None:
        """Let a call in that holds ``permission`` (``SESSION``: only a session token does). Raises Refusal."""
        if "Nobitex-Key" in call.headers or "Nobitex-Signature" in call.headers:
            if not self._signed(call):
                raise Refusal(self._failure(call))
            if permission not in self._settings.permissions:
                raise Refusal(detail("You do not have permission to perform this action.", 403))
        elif not self._has_token(call):
            raise Refusal(self._failure(call))

    def check_address(self, remote: str) -> None:
        """Refuse an address that failed too often. Raises Refusal."""
        failures = self._failures.get(remote)
        if failures is None:
            return
        self._forget(failures)
        if len(failures) > FAILURES_MAX:
            raise Refusal(page(403, "Forbidden"))

    def is_fresh(self, call: Call) -> bool:
        """Whether a request's timestamp is near enough to the present."""
        stamp = call.headers.get("Nobitex-Timestamp", "")
        if _TIMESTAMP.fullmatch(stamp) is None:
            return False
        return abs(self._clock.now().timestamp() - int(stamp)) <= self._settings.signature_window_seconds

    def _has_token(self, call: Call) -> bool:
        given = call.headers.get("Authorization", "")
        return hmac.compare_digest(_bytes(given), f"Token {self._keys.token}".encode())

    def _signed(self, call: Call) -> bool:
        key, stamp = call.headers.get("Nobitex-Key", ""), call.headers.get("Nobitex-Timestamp", "")
        if self._keys.api_key is None or not hmac.compare_digest(_bytes(key), self._keys.api_key.encode()):
            return False
        if not (call.checked or self.is_fresh(call)):
            return False
        message = _bytes(stamp + call.method + call.target) + call.body
        return signature_holds(self._keys.api_key, message, call.headers.get("Nobitex-Signature", ""))

    def _failure(self, call: Call) -> Reply:
        if call.remote not in self._failures and len(self._failures) >= ADDRESSES_MAX:
            self._failures.pop(next(iter(self._failures)))
        failures = self._failures.setdefault(call.remote, deque(maxlen=FAILURES_MAX + 1))
        self._forget(failures)
        failures.append(self._clock.monotonic())
        return detail(_NO_CREDENTIALS, 401)

    def _forget(self, failures: deque[float]) -> None:
        while failures and failures[0] <= self._clock.monotonic() - FAILURES_SECONDS:
            failures.popleft()


def _bytes(text: str) -> bytes:
    """What was on the wire, even where it was no UTF-8."""
    return text.encode("utf-8", "surrogateescape")
