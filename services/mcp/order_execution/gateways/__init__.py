"""Exchanges behind one contract (:mod:`.base`). Add one: see docs/howto/add-a-gateway.md."""
