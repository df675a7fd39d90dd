"""Orders on crypto exchanges: placed exactly once, or reported honestly as unresolved."""
