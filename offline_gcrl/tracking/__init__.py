"""Tracking in MLflow: runs of training and evaluation, dataset cards and logged policies.

Runs are identified by digests of their content. Repeating a stage therefore updates its run and creates no new one.
"""
