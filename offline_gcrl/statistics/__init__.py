"""Intervals and comparisons: agents, transfer between tasks, forgetting."""
