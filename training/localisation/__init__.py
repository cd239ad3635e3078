"""Where in an image a concept lies: patch graphs, the torch reference, and their score."""
