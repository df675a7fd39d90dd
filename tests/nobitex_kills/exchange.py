"""The local Nobitex in a process of its own, and its operator: who changes the weather and reads the whole book."""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.mcp.order_execution.sandbox import Sandbox, SandboxSettings
from tests.kills.cases import Broken, end_of, start

START_SECONDS = 20.0
TRIES = 60
"""How often the operator knocks: during an outage that refuses connections nobody is heard."""


@dataclass(frozen=True, slots=True)
class Served:
    """Where a sandbox is, and the keys that it takes."""

    url: str
    pid: int
    token: str = field(repr=False)
    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)

    def credentials(self, auth: str) -> dict[str, str]:
        """The gateway's keys in one of the two schemes."""
        if auth == "token":
            return {"api_key": self.token}
        return {"api_key": self.api_key, "api_secret": self.api_secret}

    def set_faults(self, faults: dict[str, Any]) -> None:
        """Change the weather; what is under way stays so."""
        self._ask("/sandbox/faults", json.dumps(faults).encode())

    def book(self) -> dict[str, Any]:
        """Every order that was ever booked, funds, late requests, and how many requests there were."""
        return self._ask("/sandbox/book")

    def get(self, path: str) -> dict[str, Any]:
        """A public answer of the API."""
        return self._ask(path)

    def _ask(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        request = urllib.request.Request(self.url + path, data=body, headers={"Content-Type": "application/json"})
        for _ in range(TRIES):
            try:
                with urllib.request.urlopen(request, timeout=5) as reply:
                    answer: dict[str, Any] = json.loads(reply.read())
                    return answer
            except urllib.error.HTTPError as error:
                with error:
                    raise Broken(f"the operator's request failed: {error.read()!r}") from None
            except OSError:
                pause(self.pid, 0.1)
        raise Broken(f"the sandbox does not answer at {path}")


def pause(pid: int, seconds: float) -> None:
    """Wait so long, or until a child has ended."""
    descriptor = os.pidfd_open(pid)
    try:
        select.select([descriptor], [], [], seconds)
    finally:
        os.close(descriptor)


@contextmanager
def served(settings: SandboxSettings, log: Path) -> Iterator[Served]:
    """A running sandbox, forked from this process."""
    reading, writing = os.pipe()
    pid = start(lambda: _serve(settings, writing), log)
    os.close(writing)
    try:
        with os.fdopen(reading, encoding="utf-8") as pipe:
            ready, _, _ = select.select([pipe], [], [], START_SECONDS)
            line = pipe.readline() if ready else ""
        if not line:
            raise Broken(f"the sandbox did not start: {log.read_text()[-1500:]}")
        yield Served(pid=pid, **json.loads(line))
    finally:
        os.kill(pid, signal.SIGKILL)
        end_of(pid)


async def _serve(settings: SandboxSettings, pipe: int) -> None:
    async with Sandbox(settings, rng=random.Random(settings.seed)) as sandbox:
        keys = sandbox.keys
        said = {
            "url": sandbox.base_url,
            "token": keys.token,
            "api_key": keys.api_key,
            "api_secret": keys.api_secret,
        }
        os.write(pipe, json.dumps(said).encode() + b"\n")
        os.close(pipe)
        await asyncio.Event().wait()
