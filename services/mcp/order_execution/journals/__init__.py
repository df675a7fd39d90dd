"""Durable records behind one contract (:mod:`.base`)."""
