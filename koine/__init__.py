"""What an aligned dictionary is and computes; without torch."""

__version__ = "0.1.0"
