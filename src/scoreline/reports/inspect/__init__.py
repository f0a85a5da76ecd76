"""What each token of a saved answer was told: as words, as a table, as a page."""
