"""Whether the world, or a model, has changed: statistics of codes, and words for them."""
