"""MLflow: what was run, found again by what it is of, side by side with all else that was run."""
