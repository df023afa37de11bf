"""Dataset cards: what an ingested dataset holds, in numbers, in figures and on a page."""
