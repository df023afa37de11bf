"""Training: batches, learners, updates and their fast paths, one Lightning module."""
