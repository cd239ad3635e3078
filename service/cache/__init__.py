"""Codes of items that were encoded before, in this process and in Redis."""

from service.cache.cache import CodeCache
from service.cache.keys import item_key

__all__ = ["CodeCache", "item_key"]
