"""The concepts of one dictionary found again in another."""
