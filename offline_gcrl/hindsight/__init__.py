"""Hindsight: goals that a trajectory did reach, drawn and labelled in Polars."""
