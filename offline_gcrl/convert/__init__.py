"""A user's own files to Minari: the layouts of D4RL (HDF5) and of OGBench (.npz).

``python -m offline_gcrl.convert --help``. It stands before the pipeline: what it writes into the local Minari
root is a source that a recipe names, like any published dataset.
"""
