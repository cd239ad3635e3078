"""Judges windows of counted traffic, keeps the verdicts and tells them; counts nothing.

`python -m service.drift` is the drift worker: with Redis, one process judges for all instances.
Without Redis, a service of one worker judges its own traffic itself.
"""
