"""Evaluation of policies in MuJoCo: episodes, results, probes and videos."""
