"""Hyperparameter search: settings of an agent that are chosen on evaluation episodes of their own.

- ``search``: the file of a search, and everything that its trials depend on, checked before any work.
- ``study``: which values are tried, in Optuna: storage, resume, pruning.
- ``trials``: training and evaluation of one trial by the code of the stages, and the final evaluation.
- ``results``: the files that a search writes.
"""
