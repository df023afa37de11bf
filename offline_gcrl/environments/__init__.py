"""Creating environments, their observations and goals, checks of suites, robots and cameras."""
