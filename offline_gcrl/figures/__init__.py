"""What dataset cards, evaluation and report draw alike: SVG, colours for the colour-blind, the same bytes for the same numbers."""
