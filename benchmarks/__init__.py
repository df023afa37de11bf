"""Measurements of the pipeline against what a user would pick instead; `make bench` runs them."""
