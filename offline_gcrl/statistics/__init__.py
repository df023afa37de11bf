"""Confidence intervals, comparison of agents, transfer between tasks, and forgetting."""
