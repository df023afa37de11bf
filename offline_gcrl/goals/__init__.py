"""When a goal counts as reached, and which goals are held out from training."""
