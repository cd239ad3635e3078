"""Concept drift: which concepts, by how much, since when, and where it comes from."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from monitoring.dashboards.panels import (
    GREEN,
    GREY,
    RED,
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
ALARM = 'koine:drift_alarm:max{dictionary=~"$dictionary",segment=""}'
SEGMENT_ALARM = 'koine:drift_alarm:max{dictionary=~"$dictionary",segment!=""}'
STATES = {
    0: ("ok", GREEN),
    1: ("drift", RED),
    2: ("too few items", GREY),
    3: ("no reference", GREY),
}
STATE = " + ".join(
    f'{value} * max by (stream) (koine_drift_state{{dictionary=~"$dictionary",state="{state}"}})'
    for value, state in ((1, "drift"), (2, "insufficient_data"), (3, "no_reference"))
)
SINCE = (
    "1000 * min by (dictionary, stream, concept, label) (min_over_time("
    f"timestamp(koine_drift_concept_log2_ratio{OF})[$__range:$__interval])"
    f" and koine_drift_concept_log2_ratio{OF})"
)


def drift() -> dashboard.Dashboard:
    """For the person whom the alert sent here."""
    made = board(
        "Koine: concept drift",
        "koine-drift",
        "Which concepts of the traffic became more or less frequent than in the reference.",
        ("dictionary", "koine_drift_window_end_timestamp_seconds"),
    )
    for part in (_now, _concepts, _windows, _statistics, _counting, _judging):
        made = part(made)
    return made


def _now(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Now"))
        .with_panel(
            number(
                "Alarm",
                "The worst of all streams; an alarm wants several drifted windows.",
                "none",
                Query(f"max({ALARM})"),
                says=SAYS_ALARM,
                steps=Steps(1, 2),
            )
        )
        .with_panel(
            number(
                "Where",
                "world: streams changed alike. stream: one alone (its encoder, or what it gets).",
                "none",
                Query(f"max by (where) (koine_drift_where{OF}) == 1", "{{where}}"),
                named=True,
            )
        )
        .with_panel(
            number(
                "Changed concepts",
                "Of all streams, in the last window.",
                "short",
                Query(f"sum(max by (stream, direction) (koine_drift_concepts_changed{OF}))"),
            )
        )
        .with_panel(
            number(
                "Items in the window",
                "Different items in the last window, of the stream that saw most.",
                "short",
                Query(f"max(koine_drift_window_items{OF})"),
            )
        )
        .with_panel(
            number(
                "Window ended",
                "Windows ago that the newest judged one ended; above 2, one was left out.",
                "none",
                Query(f"max(koine:drift_window_age:windows{OF})"),
                steps=Steps(1.5, 2),
                decimals=1,
            )
        )
        .with_panel(
            number(
                "Reference",
                "What windows are compared with: the artifact's profile, or live traffic.",
                "none",
                Query(f"max by (source) (koine_drift_reference_info{OF})", "{{source}}"),
                named=True,
            )
        )
    )


def _concepts(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Which concepts, by how much, since when"))
        .with_panel(
            table(
                "Concepts that changed",
                "Those with series of their own, 20 at most. Since: when one first appeared in the "
                "time shown. GET /v1/drift/concepts has them all.",
                (
                    Column("stream", "Stream"),
                    Column("concept", "Concept"),
                    Column("label", "Label"),
                    Column("Value #A", "Times as frequent", "none"),
                    Column("Value #B", "Since", "dateTimeFromNow"),
                ),
                Query(f"koine:drift_concept:ratio{OF}"),
                Query(SINCE),
                height=15,
                sort_by="Times as frequent",
            )
        )
        .with_panel(
            lines(
                "Times as frequent as in the reference",
                "Logarithmic: 2 is twice, 0.5 half as often. A line that ends is back to normal.",
                "none",
                Query(f"koine:drift_concept:ratio{OF}", "{{stream}}: {{label}} #{{concept}}"),
                span=12,
                height=15,
                lowest=None,
                log2=True,
                points=True,
            )
        )
    )


def _windows(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Since when"))
        .with_panel(
            states(
                "Alarm by stream",
                "All traffic. A warning is one window; an alarm several of the last.",
                SAYS_ALARM,
                Query(
                    f"max by (stream) ({ALARM})",
                    "{{stream}}",
                ),
            )
        )
        .with_panel(
            states(
                "Verdict of each window",
                "Too few items: fewer than 200 different ones, or fewer than 5 blocks.",
                STATES,
                Query(STATE, "{{stream}}"),
            )
        )
        .with_panel(
            states(
                "Alarm by segment",
                "Clients (key:) and labels of requests (label:) that are watched by themselves.",
                SAYS_ALARM,
                Query(
                    f"max by (segment) ({SEGMENT_ALARM})",
                    "{{segment}}",
                ),
            )
        )
        .with_panel(
            lines(
                "Changed concepts by direction",
                "new: never seen in the reference; vanished: never seen in the window.",
                "short",
                Query(
                    "sum by (direction) (max by (stream, direction) "
                    f"(koine_drift_concepts_changed{OF}))",
                    "{{direction}}",
                ),
                span=12,
                height=6,
                stacked=True,
            )
        )
    )


def _statistics(made: dashboard.Dashboard) -> dashboard.Dashboard:
    made = made.with_row(dashboard.Row("The window as a whole"))
    for statistic, title, says in (
        ("fvu", "Unexplained variance", "Grows where inputs leave what the dictionary knows."),
        ("l0", "Concepts an item", "Active concepts of an item, mean."),
        ("js_distance", "Distance of concept rates", "Jensen-Shannon; chance alone is not 0."),
    ):
        where = f'{{dictionary=~"$dictionary",statistic="{statistic}"}}'
        made = made.with_panel(
            lines(
                title,
                f"{says} The reference beside it.",
                "none",
                Query(f"max by (stream) (koine_drift_statistic{where})", "{{stream}}"),
                Query(
                    f"max by (stream) (koine_drift_statistic_reference{where})",
                    "{{stream}}, reference",
                ),
                lowest=None,
            )
        )
    return made.with_panel(
        states(
            "Statistics that moved",
            "Beyond chance and beyond the least change that counts.",
            {0: ("no", GREEN), 1: ("moved", RED)},
            Query(
                f"max by (stream, statistic) (koine_drift_statistic_drifted{OF})",
                "{{stream}} {{statistic}}",
            ),
            span=24,
        )
    )


def _counting(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Counting and judging"))
        .with_panel(
            lines(
                "Items in the window",
                "Different items, by stream.",
                "short",
                Query(f"max by (stream) (koine_drift_window_items{OF})", "{{stream}}"),
                span=6,
            )
        )
        .with_panel(
            lines(
                "Design effect",
                "How many items of a window say what one alone would: clients' items are alike.",
                "none",
                Query(f"max by (stream) (koine_drift_dispersion{OF})", "{{stream}}"),
                span=6,
            )
        )
        .with_panel(
            lines(
                "Concepts tested",
                "And those that changed without a series of their own.",
                "short",
                Query(f"max by (stream) (koine_drift_concepts_tested{OF})", "{{stream}}"),
                Query(
                    f"max by (stream) (koine_drift_concepts_truncated{OF})",
                    "{{stream}}, without series",
                ),
                span=6,
            )
        )
        .with_panel(
            lines(
                "Items given to counting",
                "duplicate: equal in a window, so counted once; dropped: there was no time.",
                "cps",
                Query(
                    "sum by (result) (rate(koine_drift_items_total[$__rate_interval]))",
                    "{{result}}",
                ),
                span=6,
                stacked=True,
            )
        )
    )


def _judging(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_panel(
            number(
                "Leaders",
                "Processes that judge; one is right.",
                "none",
                Query("sum(koine_drift_leader)"),
                span=6,
                steps=Steps(2, 2),
            )
        )
        .with_panel(
            number(
                "Since the last run",
                "One that ended well; they come every few seconds.",
                "s",
                Query("koine:drift_run_age:seconds"),
                span=6,
                steps=Steps(60, 600),
            )
        )
        .with_panel(
            number(
                "Window",
                "Length of the windows that are judged.",
                "s",
                Query("max(koine_drift_window_seconds)"),
                span=6,
            )
        )
        .with_panel(
            number(
                "Segments",
                "Clients and labels that are watched by themselves.",
                "none",
                Query(f"max(koine_drift_segments{OF})"),
                span=6,
            )
        )
        .with_panel(
            lines(
                "Runs",
                "By how they ended, in an hour.",
                "short",
                Query("sum by (result) (increase(koine_drift_runs_total[1h]))", "{{result}}"),
                span=24,
                height=5,
            )
        )
    )
