"""The JSON of refusals: of a whole request, and of one item."""

from __future__ import annotations

from pydantic import BaseModel


class Problem(BaseModel):
    """RFC 9457: why a request was refused."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    """`urn:koine:request:` and the request's id."""


class ItemError(BaseModel):
    """Why one item has no codes."""

    type: str
    title: str
    detail: str


class InferenceProblem(Problem):
    """The same below `/v2`, with the member that clients of the Open Inference Protocol read."""

    error: str
