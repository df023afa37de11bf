"""Measurements of the pipeline, compared with alternatives; `make bench` runs them."""
