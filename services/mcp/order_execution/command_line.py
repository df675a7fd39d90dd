"""The command ``order-execution``: one word, and what follows it is that command's own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from . import exchanges

COMMANDS: Final[Mapping[str, Callable[[Sequence[str]], int]]] = MappingProxyType({"exchanges": exchanges.main})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    parser = argparse.ArgumentParser(prog="order-execution", description="Reliable order execution.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("exchanges", add_help=False, help="which promise holds on which exchange, and why")
    arguments, rest = parser.parse_known_args(sys.argv[1:] if argv is None else argv)
    return COMMANDS[arguments.command](rest)


if __name__ == "__main__":
    sys.exit(main())
