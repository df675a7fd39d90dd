"""The command, for who has the package but not its script: ``python -m services.mcp.order_execution COMMAND``."""

from __future__ import annotations

import sys

from .command_line import main

if __name__ == "__main__":
    sys.exit(main())
