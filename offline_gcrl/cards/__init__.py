"""Dataset cards: the content of an ingested dataset as numbers, figures and a page, with a replay check."""
