"""Tracking in MLflow: runs of training and evaluation, dataset cards and logged policies.

Runs are identified by digests of their content. Repeating a stage therefore updates its run and creates no new one.
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow reads it when it is imported.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # By default, it waits for minutes.
