"""A small exchange of our own: matching, balances and a price process, kept in one SQLite file.

It knows nothing of gateways: :mod:`.exchange` is its counter, whoever stands before it.
"""
