"""Which concepts the traffic has, counted in stretches of time: each process its own, added up by
whoever asks. Judges nothing."""

from service.counting.counting import Counting, Served, buckets_of
from service.counting.window import Window, read_window

__all__ = ["Counting", "Served", "Window", "buckets_of", "read_window"]
