"""Commands of the Makefile that are not stages of the pipeline."""
