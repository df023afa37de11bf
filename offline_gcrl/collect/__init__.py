"""From recipe to Minari dataset: explorers, demonstrators, and the collector that runs them."""
