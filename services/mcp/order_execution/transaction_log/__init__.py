"""The transaction log: what happened to every order, as JSON lines, for people and their tools.

It is not the journal: nothing is recovered from it, and it never holds an order up.
"""

from .reader import TransactionLogReader
from .writer import TransactionLog

__all__ = ["TransactionLog", "TransactionLogReader"]
