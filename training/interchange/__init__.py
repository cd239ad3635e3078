"""Dictionaries in other projects' formats: read as a run, written as they load it."""
