"""`make monitoring`: everything on one machine, a drift that rings, and what it looks like."""
