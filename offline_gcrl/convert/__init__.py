"""From files in the layout of D4RL (HDF5) or OGBench (.npz) to Minari datasets.

The command is ``python -m offline_gcrl.convert --help``. It runs before the pipeline: it writes a dataset into the local
Minari root, and a recipe can name this dataset as a source, like any published dataset.
"""
