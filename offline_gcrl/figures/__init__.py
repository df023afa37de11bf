"""Figures shared by dataset cards, evaluation and report.

Figures are SVG files with a palette for colour-blind readers. The same numbers give the same bytes.
"""
