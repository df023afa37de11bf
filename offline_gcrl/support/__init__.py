"""What every other part leans on: errors, files, worker processes, the terminal. Imports nothing of the package."""
