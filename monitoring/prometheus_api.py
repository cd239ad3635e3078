"""What a running Prometheus answers to queries; knows no metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import httpx

from koine.errors import ServiceUnavailableError


class Series(NamedTuple):
    """A set of labels with its values."""

    labels: Mapping[str, str]
    times: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def last(self) -> float:
        """The latest value."""
        return self.values[-1]


class Prometheus:
    """One server; close it, or use `with`."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30)

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def now(self, expr: str, at: float | None = None) -> list[Series]:
        """An instant query. Raises `ServiceUnavailableError`, also for one that cannot be read."""
        time = {} if at is None else {"time": at}
        found = self._ask("query", query=expr, **time)["result"]
        return [_series(one, [one["value"]]) for one in found]

    def over(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """A range query. Raises as `now` does."""
        found = self._ask("query_range", query=expr, start=start, end=end, step=step)["result"]
        return [_series(one, one["values"]) for one in found]

    def targets(self) -> list[dict[str, Any]]:
        """What is scraped: `health`, `lastError`, `labels`."""
        return self._ask("targets", state="active")["activeTargets"]

    def rules(self) -> list[dict[str, Any]]:
        """Rules as they were evaluated last: `name`, `query`, `health`, `lastError`."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def names(self) -> set[str]:
        """Every metric that was ever scraped or recorded."""
        return set(self._get("label/__name__/values", {}))

    def _ask(self, path: str, **asked: object) -> dict[str, Any]:
        return self._get(path, {name: str(value) for name, value in asked.items()})

    def _get(self, path: str, asked: Mapping[str, str]) -> Any:
        try:
            answer = self._client.get(f"/api/v1/{path}", params=asked)
            said = cast(dict[str, Any], answer.json())
        except (httpx.HTTPError, ValueError) as error:
            raise ServiceUnavailableError(f"Prometheus does not answer: {error}") from error
        if said.get("status") != "success":
            raise ServiceUnavailableError(
                f"Prometheus refuses {asked.get('query', path)!r}: {said.get('error')}"
            )
        return said["data"]


def _series(one: dict[str, Any], points: list[tuple[float, str]]) -> Series:
    times = tuple(float(time) for time, _ in points)
    return Series(one["metric"], times, tuple(float(value) for _, value in points))
