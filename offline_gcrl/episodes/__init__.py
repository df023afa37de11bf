"""Minari to Parquet: the schema of episodes, ingesting them, and opening them as arrays."""
