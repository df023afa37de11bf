"""When a goal is reached, and which goals are held out from training."""
