"""Losses that several algorithms have in common, as pure functions; each algorithm's file puts its own together."""
