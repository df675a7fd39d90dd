"""The command: ``python -m services.mcp.order_execution.sandbox [--port 8765] [--fault NAME=PROB …] [--json] …``.

Exit codes: 0 stopped by SIGTERM, SIGINT or ``--until-eof``, 2 usage or configuration, 75 the exchange's file stays
busy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from ..errors import ConfigurationError, ExchangeUnavailable
from ..standard_output import reader_may_leave
from .server import Sandbox
from .settings import SandboxSettings, WireFaults

EXIT_STOPPED: Final = 0
EXIT_USAGE: Final = 2
EXIT_BUSY: Final = 75
_CHUNK: Final = 2**16


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.until_eof and not _is_pipe(os.fstat(sys.stdin.fileno()).st_mode):
        return _fail("--until-eof: expected a pipe as standard input", EXIT_USAGE)
    try:
        asyncio.run(_serve(Sandbox(settings_of(options)), as_json=options.json, until_eof=options.until_eof))
    except ValidationError as error:
        return _fail(
            "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()), EXIT_USAGE
        )
    except ConfigurationError as error:
        return _fail(str(error), EXIT_USAGE)
    except ExchangeUnavailable as error:
        return _fail(str(error), EXIT_BUSY)
    return EXIT_STOPPED


def settings_of(options: argparse.Namespace) -> SandboxSettings:
    """The settings that the command line asks for. Raises ValidationError and ConfigurationError."""
    wanted = {
        "host": options.host,
        "port": options.port,
        "path": options.db,
        "seed": options.seed,
        "token": options.token,
        "api_key": options.api_key,
        "api_keys": not options.token_only,
        "permissions": None if options.permissions is None else options.permissions.split(","),
        "limits": options.limits if options.limits != 0 else None,
        "signature_window_seconds": options.signature_window,
        "duplicate_seconds": options.duplicate_seconds,
        "block_seconds": options.block_seconds,
        "shapes": options.shapes,
        "faults": WireFaults.model_validate(dict(_fault(text) for text in options.fault)),
    }
    return SandboxSettings.model_validate(
        {name: value for name, value in wanted.items() if value is not None or name == "limits"}
    )


def _fault(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"--fault {text}: expected NAME=VALUE, such as lost_reply=0.1", field="fault")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


async def _serve(sandbox: Sandbox, *, as_json: bool, until_eof: bool) -> None:
    """Run until SIGTERM or SIGINT, and at most until the end of standard input where that is asked for."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        async with sandbox:
            with reader_may_leave():
                sys.stdout.write(json.dumps(introduction(sandbox)) + "\n" if as_json else greeting(sandbox))
            await (_first(stop) if until_eof else stop.wait())
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _is_pipe(mode: int) -> bool:
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


async def _first(stop: asyncio.Event) -> None:
    """Wait for ``stop``, or for whoever holds the other end of standard input to close it, or to die."""
    reader = asyncio.StreamReader(limit=_CHUNK)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(_end_of(reader))]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        transport.close()


async def _end_of(reader: asyncio.StreamReader) -> None:
    while await reader.read(_CHUNK):
        pass


def introduction(sandbox: Sandbox) -> dict[str, Any]:
    """Where the sandbox is, and its made-up keys, with configurations to use as they are."""
    keys = sandbox.keys
    gateway = {"name": "nobitex", "base_url": sandbox.base_url}
    configurations = {"token": {"gateway": {**gateway, "api_key": keys.token}}}
    if keys.api_key is not None:
        secret = keys.api_secret or "YOUR-PRIVATE-KEY"
        configurations["api_key"] = {"gateway": {**gateway, "api_key": keys.api_key, "api_secret": secret}}
    return {
        "base_url": sandbox.base_url,
        "stream_url": sandbox.stream_url,
        "faults_url": f"{sandbox.base_url}/sandbox/faults",
        "book_url": f"{sandbox.base_url}/sandbox/book",
        "token": keys.token,
        "api_key": keys.api_key,
        "api_secret": keys.api_secret,
        "path": str(sandbox.settings.path),
        "config": configurations,
    }


def greeting(sandbox: Sandbox) -> str:
    """The same for people."""
    known = introduction(sandbox)
    lines = [f"Nobitex sandbox: {known['base_url']}   (stream: {known['stream_url']})"]
    titles = {"api_key": "With the demo API key", "token": "With the demo session token"}
    for scheme in ("api_key", "token"):
        if scheme in known["config"]:
            lines += ["", f"{titles[scheme]} — made up, worth nothing anywhere else:"]
            lines.append(json.dumps(known["config"][scheme], indent=2))
    lines += [
        "",
        f"The whole book:     curl {known['book_url']}",
        "A bad day:          curl -H 'Content-Type: application/json' \\",
        f"                         -d '{{\"lost_reply\": 0.1}}' {known['faults_url']}",
        f"State is kept in    {known['path']}",
        "Ctrl-C ends it.",
    ]
    return "\n".join(lines) + "\n"


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"sandbox: {message}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.mcp.order_execution.sandbox",
        description="Run a local exchange with Nobitex's API shape. Money and keys are made up.",
        epilog="exit codes: 0 stopped, 2 usage or configuration, 75 the exchange's file stays busy",
    )
    default = SandboxSettings()
    parser.add_argument("--host", default=default.host, help=f"address to listen on ({default.host})")
    parser.add_argument("--port", type=int, default=default.port, help=f"0: a free one ({default.port})")
    parser.add_argument("--db", type=Path, default=default.path, metavar="PATH", help=f"its file ({default.path})")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="such as lost_reply=0.1 or latency_seconds=[0.01,0.1]; may be repeated",
    )
    parser.add_argument("--seed", type=int, default=default.seed, metavar="N", help="of prices and demo keys (0)")
    parser.add_argument("--token", metavar="HEX40", help="the session token to accept")
    parser.add_argument(
        "--api-key", metavar="PUBLIC", help="the public API key to accept; you keep the private one"
    )
    parser.add_argument("--token-only", action="store_true", help="without the API-key scheme")
    parser.add_argument("--permissions", metavar="READ,TRADE", help="of the API key (READ,TRADE)")
    parser.add_argument(
        "--limits", type=float, default=1.0, metavar="X", help="times the documented limits; 0: none"
    )
    for name, value, meaning in (
        ("--signature-window", default.signature_window_seconds, "how old a signed request may be"),
        ("--duplicate-seconds", default.duplicate_seconds, "for how long an equal order is refused"),
        ("--block-seconds", default.block_seconds, "how long an account is blocked that ignores backOff"),
    ):
        parser.add_argument(name, type=float, default=value, metavar="SECONDS", help=f"{meaning} ({value:g})")
    parser.add_argument("--shapes", choices=("varied", "old", "new"), default="varied", help="of answers (varied)")
    parser.add_argument(
        "--until-eof", action="store_true", help="end with standard input, as a child process should"
    )
    parser.add_argument("--json", action="store_true", help="say on one line of JSON where it is")
    return parser


if __name__ == "__main__":
    sys.exit(main())
