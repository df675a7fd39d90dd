"""What commands print: to nobody, and without an error, once the reader of a pipe has gone."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """Print within. A reader that leaves, such as ``head``, ends the printing.

    The command's exit code stays what the command has found out: Python's own would be 1, or 120.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout)


def silence(stream: IO[str]) -> None:
    """Have all that is written from now on, and what is buffered, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


def make_console(**options: Any) -> Console:
    """Make a rich console with these options that goes on in silence; rich's own would end the process."""
    from rich.console import Console  # noqa: PLC0415 - only for people

    class Lasting(Console):
        def on_broken_pipe(self) -> None:
            """Print no more, and go on."""
            self.quiet = True
            silence(self.file)

    return Lasting(**options)
