"""Model agreement: do streams that read the same items still say the same."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from monitoring.dashboards.panels import (
    SAYS_ALARM,
    Column,
    Query,
    Steps,
    board,
    lines,
    number,
    states,
    table,
)

OF = '{dictionary=~"$dictionary"}'


def agreement() -> dashboard.Dashboard:
    """Which pair of streams parted, and which of the two changed."""
    made = board(
        "Koine: model agreement",
        "koine-agreement",
        "How alike two streams' concepts of the same items are, against the reference.",
        ("dictionary", "koine_drift_window_end_timestamp_seconds"),
    )
    return _over_time(_now(made))


def _now(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Now"))
        .with_panel(
            number(
                "Alarm",
                "The worst pair: an alarm wants several of the last windows to have drifted.",
                "none",
                Query(f"max(koine_drift_agreement_alarm{OF})"),
                height=8,
                says=SAYS_ALARM,
                steps=Steps(1, 2),
            )
        )
        .with_panel(
            table(
                "Pairs of streams",
                "Mean Jaccard of the active concepts of the same items, in the last window.",
                (
                    Column("pair", "Pair"),
                    Column("Value #A", "Now"),
                    Column("Value #B", "Reference"),
                    Column("Value #C", "Change"),
                ),
                Query(f"max by (pair) (koine_drift_agreement{OF})"),
                Query(f"max by (pair) (koine_drift_agreement_reference{OF})"),
                Query(f"max by (pair) (koine:drift_agreement:shift{OF})"),
                span=20,
                height=8,
            )
        )
    )


def _over_time(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Over time"))
        .with_panel(
            lines(
                "Agreement",
                "Mean Jaccard by pair, and the reference's.",
                "none",
                Query(f"max by (pair) (koine_drift_agreement{OF})", "{{pair}}"),
                Query(
                    f"max by (pair) (koine_drift_agreement_reference{OF})", "{{pair}}, reference"
                ),
                span=12,
            )
        )
        .with_panel(
            lines(
                "Change against the reference",
                "Below 0: the two agree less often than they did.",
                "none",
                Query(f"max by (pair) (koine:drift_agreement:shift{OF})", "{{pair}}"),
                span=12,
                lowest=None,
            )
        )
        .with_panel(
            states(
                "Alarm by pair",
                "A warning is one window; an alarm several of the last.",
                SAYS_ALARM,
                Query(f"max by (pair) (koine_drift_agreement_alarm{OF})", "{{pair}}"),
            )
        )
        .with_panel(
            states(
                "Alarm by stream",
                "Which of the two changed: the one whose own concepts drifted.",
                SAYS_ALARM,
                Query(
                    'max by (stream) (koine:drift_alarm:max{dictionary=~"$dictionary",segment=""})',
                    "{{stream}}",
                ),
            )
        )
    )
