"""Networks, one idea per file. Inputs are normalised observations and goals; actions are scaled to [-1, 1]."""
