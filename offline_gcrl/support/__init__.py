"""Errors, files, worker processes and the terminal, for all other folders; imports no other folder of the package."""
