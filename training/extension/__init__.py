"""A new stream on a frozen dictionary."""
