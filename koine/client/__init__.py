"""Clients of a Koine service, over HTTP and gRPC, for threads and for event loops.

    with Client("http://localhost:3000") as client:
        encoded = client.encode([Image("photo.jpg"), Text("a dog on grass")])

`import koine` alone loads neither httpx nor grpc, and this package loads grpc for gRPC only.
docs/client.md is the manual.
"""

from koine.client.async_client import AsyncClient
from koine.client.inputs import Activations, Image, Item, Text
from koine.client.results import (
    Compared,
    ComparedItem,
    Concept,
    ConceptCard,
    Encoded,
    EncodedItem,
    Info,
    ItemError,
    LabelChange,
    Localized,
    Pair,
    StreamCodes,
    StreamInfo,
    Timings,
    Translated,
    TranslatedItem,
    Translation,
)
from koine.client.sync_client import Client

__all__ = [
    "Activations",
    "AsyncClient",
    "Client",
    "Compared",
    "ComparedItem",
    "Concept",
    "ConceptCard",
    "Encoded",
    "EncodedItem",
    "Image",
    "Info",
    "Item",
    "ItemError",
    "LabelChange",
    "Localized",
    "Pair",
    "StreamCodes",
    "StreamInfo",
    "Text",
    "Timings",
    "Translated",
    "TranslatedItem",
    "Translation",
]
