"""The bad day on Nobitex: the sandbox in a process of its own, signed requests over HTTP, faults at its wire."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import aiohttp

from ..clock import Clock
from ..errors import ConfigurationError, ErrorCategory, ExchangeUnavailable
from ..gateways.base import Gateway
from ..gateways.nobitex import NobitexGateway
from ..gateways.nobitex.signing import make_signer
from ..reliable_executor import ReliableOrderExecutor
from .day import FAULTS, SECONDS, BadDay, configuration
from .plan import NOBITEX_MIX, Purpose

Auth = Literal["key", "token"]

SYMBOLS: Final = ("BTC/USDT", "ETH/USDT", "DOGE/USDT", "BTC/IRT")
WIRE_FAULTS: Final[Mapping[str, Any]] = {
    **FAULTS,
    "lost_request": 0.03,
    "lost_reply": 0.06,
    "late_arrival": 0.05,
    "rate_limited": 0.02,
    "server_error": 0.03,
    "garbled_reply": 0.02,
    "refused_connection": 0.02,
    "hang": 0.01,
}
"""One request in four meets a fault, and to look an order up takes four of them here."""

WINDOW_SECONDS: Final = 4.5
"""How old a signed request may be: 30 s at Nobitex. Whoever has lost an answer waits so long to be sure."""
EXPIRY_SECONDS: Final = 5.0
TIMEOUT_SECONDS: Final = 1.0
KEY_SETTLE_SECONDS: Final = 0.5
TOKEN_SETTLE_SECONDS: Final = 3.0
"""A session token signs nothing: this is assumed of what may be under way, as 60 s are of Nobitex."""
DUPLICATE_SECONDS: Final = 1.5
"""For how long an equal order is refused: 10 s at Nobitex."""
BLOCK_SECONDS: Final = 2.0
"""How long whoever ignores ``backOff`` is blocked: 2 minutes at Nobitex."""
UNLIMITED: Final = 1e6
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 5.0
OPERATOR_TRIES: Final = 100
OPERATOR_PAUSE_SECONDS: Final = 0.2
"""While connections are refused, the sandbox's operator is not heard either."""


class NobitexDay(BadDay):
    """The day on a sandbox of its own; ``async with`` runs it. Its times are Nobitex's, several times shorter."""

    symbols = SYMBOLS
    mix: Mapping[Purpose, int] = NOBITEX_MIX

    def __init__(
        self,
        directory: Path,
        seed: int,
        clock: Clock,
        *,
        auth: Auth = "key",
        seconds: float = SECONDS,
        faults: Mapping[str, Any] | None = None,
    ) -> None:
        self._auth = auth
        self._process: asyncio.subprocess.Process | None = None
        self._faults_url = ""
        super().__init__(directory, seed, clock, seconds=seconds, faults=WIRE_FAULTS if faults is None else faults)
        self.where = f"a local Nobitex ({'API key' if auth == 'key' else 'session token'})"

    def _bad_config(self) -> dict[str, Any]:
        return self.after  # what goes wrong here, goes wrong at the wire

    def _config(self) -> dict[str, Any]:
        times: dict[str, Any] = {"settle_seconds": TOKEN_SETTLE_SECONDS}
        if self._auth == "key":
            times = {"settle_seconds": KEY_SETTLE_SECONDS, "request_expiry_seconds": EXPIRY_SECONDS}
        return configuration(self.directory, {"name": "nobitex", "timeout_seconds": TIMEOUT_SECONDS, **times})

    # ---- the sandbox --------------------------------------------------------------------------------------

    def _command(self) -> list[str]:
        package = __name__.rsplit(".", 2)[0]
        options = {
            "port": 0,
            "db": self.directory / "nobitex_sandbox.db",
            "seed": self.seed,
            "limits": 0,
            "signature-window": WINDOW_SECONDS,
            "duplicate-seconds": DUPLICATE_SECONDS,
            "block-seconds": BLOCK_SECONDS,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        scheme = ["--token-only"] if self._auth == "token" else []
        return [sys.executable, "-m", f"{package}.sandbox", "--json", "--until-eof", *scheme, *words]

    async def __aenter__(self) -> Self:
        """Start the sandbox. Raises ConfigurationError where it cannot run, and ExchangeUnavailable."""
        with (self.directory / "sandbox.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the rehearsal, which ends the sandbox when it is done
            )
        try:
            self._introduce(await self._first_line(self._process))
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _first_line(self, process: asyncio.subprocess.Process) -> bytes:
        if process.stdout is None:
            raise RuntimeError("the sandbox was started without a pipe")
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
        except TimeoutError:
            why = f"the sandbox did not start within {START_SECONDS:g} s"
            raise ExchangeUnavailable(why, category=ErrorCategory.TIMEOUT) from None
        if not line:
            said = (self.directory / "sandbox.log").read_text(encoding="utf-8", errors="replace").strip()
            why = said.splitlines()[-1] if said else "the sandbox ended at once"
            raise ConfigurationError(f"{why} (here: --auth token)" if "--token-only" in why else why)
        return line

    def _introduce(self, line: bytes) -> None:
        """Take over where it is, and its demo keys."""
        known = json.loads(line)
        self.after["gateway"] |= known["config"]["api_key" if self._auth == "key" else "token"]["gateway"]
        self._faults_url = known["faults_url"]

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()

    # ---- the executor and its gateway ---------------------------------------------------------------------

    def observer(self) -> Gateway:
        """Make the production gateway with the demo keys, whatever keys lie about in the environment.

        Only its limits per minute are lifted: the day has seconds.
        """
        section = self.after["gateway"]
        made = NobitexGateway(
            make_signer(section["api_key"], section.get("api_secret")),
            self.clock,
            timeout_seconds=section["timeout_seconds"],
            base_url=section["base_url"],
            rate_limit_share=UNLIMITED,
            settle_seconds=section["settle_seconds"],
            request_expiry_seconds=section.get("request_expiry_seconds"),
        )
        made.traits = replace(
            made.traits,
            order_requests_per_second=None,
            cancel_requests_per_second=None,
            read_requests_per_second=None,
        )
        return made

    def executor(self) -> ReliableOrderExecutor:
        """The executor that lives through the day."""
        return ReliableOrderExecutor(self.after, gateway=self.observer())

    def executor_after(self) -> ReliableOrderExecutor:
        """The one that is started afterwards, on the same journal."""
        return self.executor()

    # ---- the weather --------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Let the weather turn bad; outages count from now."""
        await self._set_faults(self.faults)

    async def end(self) -> None:
        """Let it be good again; what is under way arrives all the same."""
        await self._set_faults({})

    async def _set_faults(self, faults: Mapping[str, Any]) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0)) as session:
            for _ in range(OPERATOR_TRIES):
                try:
                    async with session.post(self._faults_url, json=dict(faults)) as answer:
                        if answer.status == 200:
                            return
                        raise ConfigurationError(f"the sandbox refuses the faults: {await answer.text()}")
                except (aiohttp.ClientError, TimeoutError):
                    await asyncio.sleep(OPERATOR_PAUSE_SECONDS)
        raise ExchangeUnavailable("the sandbox does not take its faults", category=ErrorCategory.CONNECTION)

    def files(self) -> dict[str, str]:
        """Where everything lies."""
        return {**super().files(), "the exchange itself": str(self.directory / "nobitex_sandbox.db")}
