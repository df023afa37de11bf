"""Parts that several algorithms have in common: losses as pure functions, and a goal encoder for every agent."""
