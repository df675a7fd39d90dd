"""A rehearsal of bad days: real orders on the paper exchange while faults are injected (``make run``)."""
