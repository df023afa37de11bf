"""Evaluation in MuJoCo: episodes, results, probes, videos."""
