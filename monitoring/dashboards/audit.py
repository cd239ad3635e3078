"""The audit log: is everything kept, signed and published."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from monitoring.dashboards.panels import Query, Steps, board, lines, number

JOB = '{job=~"$job"}'


def audit() -> dashboard.Dashboard:
    """What whoever answers for the log wants to see at zero."""
    made = board(
        "Koine: audit log",
        "koine-audit",
        "Events that are kept, signed and published. All zero where there is no audit log.",
        ("job", "koine_build_info"),
    )
    return _over_time(_now(made))


def _now(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Now"))
        .with_panel(
            number(
                "Events lost",
                "Since the workers started; lost for good.",
                "short",
                Query(f"sum(koine_audit_dropped_events{JOB})"),
                span=6,
                steps=Steps(1, 1),
            )
        )
        .with_panel(
            number(
                "Entries not signed",
                "A checkpoint is due after 10,000 entries or a minute.",
                "short",
                Query(f"sum(koine:audit_unsigned_entries:sum{JOB})"),
                span=6,
                steps=Steps(10_000, 20_000),
            )
        )
        .with_panel(
            number(
                "Failures to publish",
                "Times that a place for checkpoints was not reached since the workers started.",
                "short",
                Query(f"sum(koine_audit_publish_failures{JOB})"),
                span=6,
                steps=Steps(1, 10),
            )
        )
        .with_panel(
            number(
                "Waiting for the disk",
                "Events in memory; a full buffer delays answers or loses events.",
                "short",
                Query(f"sum(koine_audit_buffer_events{JOB})"),
                span=6,
                steps=Steps(1000, 5000),
            )
        )
    )


def _over_time(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Over time"))
        .with_panel(
            lines(
                "Events by kind",
                "Events a second that were given to the log.",
                "cps",
                Query(f"sum by (kind) (koine:audit_events:rate5m{JOB})", "{{kind}}"),
                span=12,
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "Entries and signed entries",
                "Signed ones follow in steps; where they stop, signing has stopped.",
                "short",
                Query(f"sum(koine_audit_entries{JOB})", "entries"),
                Query(f"sum(koine_audit_signed_entries{JOB})", "under a signed checkpoint"),
                span=12,
            )
        )
        .with_panel(
            lines(
                "Entries not signed",
                "A saw of a minute's entries is right.",
                "short",
                Query(f"sum(koine:audit_unsigned_entries:sum{JOB})", "not signed"),
                span=12,
            )
        )
        .with_panel(
            lines(
                "Waiting, lost, not published",
                "All three belong near zero.",
                "short",
                Query(f"sum(koine_audit_buffer_events{JOB})", "waiting for the disk"),
                Query(f"sum(koine_audit_dropped_events{JOB})", "lost"),
                Query(f"sum(koine_audit_publish_failures{JOB})", "failures to publish"),
                span=12,
            )
        )
    )
