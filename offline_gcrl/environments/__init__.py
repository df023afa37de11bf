"""Environments: making them, observations and goals out of them, suites, robots, cameras."""
