"""The clients that are compared: which there are, in which environments, and how they are driven."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.measure import ROOT, WORK

HERE: Final = Path(__file__).resolve().parent
ANSWER_SECONDS: Final = 180.0
INSTALL_SECONDS: Final = 420


class PeerUnavailable(Exception):
    """A peer could not be installed or started; the row says so."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One client of the stub."""

    name: str
    title: str
    script: str
    requirements: tuple[str, ...] = ()
    """What its environment holds; empty: it runs in ours."""
    arguments: tuple[str, ...] = ()
    ours: bool = False


RAW: Final = Peer("raw", "raw aiohttp + HMAC + orjson", "raw_client.py")
OURS: Final = Peer("ours", "this library (journal, transaction log)", "our_client.py", ours=True)
PLAIN: Final = Peer("ours-plain", "this library (journal)", "our_client.py", arguments=("plain",), ours=True)
GATEWAY: Final = Peer("gateway", "our gateway alone, no executor", "gateway_client.py", ours=True)
PEERS: Final = (
    RAW,
    GATEWAY,
    OURS,
    PLAIN,
    Peer("ccxt", "ccxt 4.5.90 create_order", "ccxt_client.py", ("ccxt==4.5.90", "orjson", "aiohttp")),
    Peer("nautilus", "NautilusTrader 1.221.0 submit_order", "nautilus_client.py", ("nautilus_trader==1.221.0",)),
    Peer("freqtrade", "freqtrade 2026.9 Exchange.create_order", "freqtrade_client.py", ("freqtrade==2026.9",)),
)
NOT_MEASURED: Final = {
    "hummingbot": "no wheel for Python 3.11 that resolves; its last measurement here: 2.0 × latency, 4.0 × CPU",
}


def python_of(peer: Peer) -> Path:
    """The interpreter that a peer runs on, its environment made on first use. Raises PeerUnavailable."""
    if not peer.requirements:
        return Path(sys.executable)
    directory = WORK / "envs" / peer.name
    python = directory / "bin" / "python"
    mark = directory / "installed.txt"
    wanted = "\n".join(peer.requirements)
    if mark.exists() and mark.read_text(encoding="utf-8") == wanted:
        return python
    shutil.rmtree(directory, ignore_errors=True)
    sys.stderr.write(f"making the environment of {peer.name} (once)" + "\n")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "-qq", "install"]
    try:
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True, capture_output=True)
        subprocess.run([*pip, *peer.requirements], check=True, capture_output=True, timeout=INSTALL_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        shutil.rmtree(directory, ignore_errors=True)
        raise PeerUnavailable(f"its environment could not be made: {type(error).__name__}") from error
    mark.write_text(wanted, encoding="utf-8")
    return python


class Driven:
    """A process that is driven by lines of JSON. Raises PeerUnavailable when it does not answer."""

    def __init__(self, name: str, command: Sequence[str], python_path: str) -> None:
        self.name = name
        environment = {**os.environ, "PYTHONPATH": python_path}
        self._log = (WORK / f"{name}.log").open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
            cwd=WORK,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def answer(self) -> dict[str, Any]:
        """The next line of JSON; what else a peer prints is left out."""
        while True:
            try:
                line = self._lines.get(timeout=ANSWER_SECONDS)
            except queue.Empty:
                raise PeerUnavailable(f"{self.name} did not answer within {ANSWER_SECONDS:g} s") from None
            if not line:
                raise PeerUnavailable(f"{self.name} ended; see {self._log.name}")
            if line.startswith("{"):
                told: dict[str, Any] = json.loads(line)
                return told

    def port(self) -> str:
        """The first line of the stub."""
        return self._lines.get(timeout=ANSWER_SECONDS).strip()

    def ask(self, **command: object) -> dict[str, Any]:
        """Give a command and wait for its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerUnavailable(f"{self.name} ended; see {self._log.name}") from None
        return self.answer()

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._log.close()


@contextmanager
def stub() -> Iterator[str]:
    """The stub exchange in its own process; gives its port."""
    process = Driven("stub", [sys.executable, str(HERE / "stub.py")], "")
    try:
        yield process.port()
    finally:
        process.close()


@contextmanager
def clients(
    peers: Sequence[Peer], port: str, directory: Path, missing: Callable[[Peer, str], None]
) -> Iterator[dict[str, Driven]]:
    """All clients that can be started, ready and warm; ``missing`` is told of the others."""
    with ExitStack() as stack:
        running: dict[str, Driven] = {}
        for peer in peers:
            try:
                command = [str(python_of(peer)), str(HERE / "clients" / peer.script), port, str(directory)]
                process = Driven(peer.name, [*command, *peer.arguments], str(ROOT) if peer.ours else "")
                stack.callback(process.close)
                process.answer()
            except PeerUnavailable as error:
                missing(peer, str(error))
                continue
            running[peer.name] = process
        yield running
