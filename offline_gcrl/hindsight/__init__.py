"""Hindsight relabelling: goals that a trajectory reached are drawn and labelled with rewards, in Polars."""
