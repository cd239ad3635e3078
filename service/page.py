"""The page where people check concepts; all that it does it asks of the API."""

from __future__ import annotations

from pathlib import Path

CONCEPTS_PAGE = Path(__file__).with_name("concepts.html").read_text(encoding="utf-8")
"""One file: its script and style stand in it, and their hashes in its policy."""
