"""`python -m monitoring.dashboards`: writes every dashboard into monitoring/dashboards/json/."""

from __future__ import annotations

from collections.abc import Callable

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitoring.dashboards.agreement import agreement
from monitoring.dashboards.audit import audit
from monitoring.dashboards.drift import drift
from monitoring.dashboards.service import service
from monitoring.expressions import DASHBOARDS

BOARDS: dict[str, Callable[[], dashboard.Dashboard]] = {
    "service": service,
    "drift": drift,
    "agreement": agreement,
    "audit": audit,
}


def written() -> dict[str, str]:
    """Each file's name and text."""
    return {
        f"{name}.json": JSONEncoder(sort_keys=True, indent=1).encode(_numbered(make())) + "\n"
        for name, make in BOARDS.items()
    }


def main() -> None:
    """Writes the files that differ."""
    DASHBOARDS.mkdir(exist_ok=True)
    for name, text in written().items():
        (DASHBOARDS / name).write_text(text)


def _numbered(made: dashboard.Dashboard) -> object:
    """Built, its panels with ids: links to a panel need them."""
    built = made.build()
    for at, panel in enumerate(built.panels or [], start=1):
        panel.id_val = at
    return built


if __name__ == "__main__":
    main()
