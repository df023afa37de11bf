"""Ingesting Minari datasets as Parquet: reading and checking episodes, the schema, writing and opening."""
