"""Service health: is it up, is it quick, what does it do, where does it wait."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from monitoring.dashboards.panels import (
    GREEN,
    RED,
    Column,
    Query,
    Steps,
    board,
    lines,
    number,
    table,
)

JOB = '{job=~"$job"}'
QUANTILE = 'histogram_quantile(0.99, sum by (op, le) (rate({}{{job=~"$job"}}[$__rate_interval])))'


def service() -> dashboard.Dashboard:
    """What an on-call person looks at first."""
    made = board(
        "Koine: service health",
        "koine-service",
        "Requests, time, queues, cache and dependencies of the encoding service.",
        ("job", "koine_build_info"),
    )
    for part in (_now, _traffic, _time, _queues, _around):
        made = part(made)
    return made


def _now(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Now"))
        .with_panel(
            number(
                "Ready workers",
                "Workers that take requests, of all instances.",
                "none",
                Query(f"sum(koine_ready{JOB})"),
                steps=Steps(1, 1, down=True),
            )
        )
        .with_panel(
            number(
                "Failed requests",
                "Share of requests that the service failed, five minutes; the objective is 0.5 %.",
                "percentunit",
                Query(f"max(koine:request_errors:ratio_rate5m{JOB})"),
                steps=Steps(0.005, 0.03),
            )
        )
        .with_panel(
            number(
                "p99 of the slowest route",
                "One request in a hundred takes longer; the objective is 0.64 s.",
                "s",
                Query(f"max(koine:request_duration_seconds:p99_5m{JOB})"),
                steps=Steps(0.32, 0.64),
            )
        )
        .with_panel(
            number(
                "Fullest queue",
                "Items waiting over items that may wait; at 100 % requests are refused.",
                "percentunit",
                Query(f"max(koine:queue_saturation:max{JOB})"),
                steps=Steps(0.5, 0.8),
            )
        )
        .with_panel(
            number(
                "Requests",
                "Requests a second, whatever became of them.",
                "reqps",
                Query(f"sum(koine:requests:rate5m{JOB})"),
            )
        )
        .with_panel(
            number(
                "Items",
                "Images, texts and activations a second that were answered with codes.",
                "cps",
                Query(f"sum(koine:goodput_items:rate5m{JOB})"),
            )
        )
    )


def _traffic(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Traffic"))
        .with_panel(
            lines(
                "Requests by outcome",
                "overloaded: refused for load or rate (429); error: the service failed (5xx).",
                "reqps",
                Query(f"sum by (outcome) (koine:requests:rate5m{JOB})", "{{outcome}}"),
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "Items answered, by modality",
                "Goodput: items a second with codes as their answer.",
                "cps",
                Query(f"sum by (modality) (koine:goodput_items:rate5m{JOB})", "{{modality}}"),
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "Refused requests, by reason",
                "Shares of all requests.",
                "percentunit",
                Query(f"max by (reason) (koine:rejected_requests:ratio_rate5m{JOB})", "{{reason}}"),
                steps=Steps(0.01, 0.05),
            )
        )
        .with_panel(
            lines(
                "Budget of errors",
                "How many times faster than evenly over 30 days the 0.5 % are spent. Alerts ring "
                "above 14.4 (1 h) and above 6 (6 h).",
                "none",
                Query(f"max(koine:request_errors:ratio_rate1h{JOB}) / 0.005", "1 h"),
                Query(f"max(koine:request_errors:ratio_rate6h{JOB}) / 0.005", "6 h"),
                steps=Steps(6, 14.4),
            )
        )
        .with_panel(
            lines(
                "Errors by route",
                "The five routes that failed most.",
                "reqps",
                Query(
                    "topk(5, sum by (route) (rate(koine_requests_total"
                    '{job=~"$job",outcome="error"}[$__rate_interval])))',
                    "{{route}}",
                ),
            )
        )
        .with_panel(
            lines(
                "Gone before an answer",
                "Deadlines that were missed, and items whose client left before the forward pass.",
                "cps",
                Query(
                    f"sum(rate(koine_deadline_missed_total{JOB}[$__rate_interval]))",
                    "missed deadlines",
                ),
                Query(f"sum(rate(koine_dropped_items_total{JOB}[$__rate_interval]))", "items left"),
            )
        )
    )


def _time(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Time"))
        .with_panel(
            lines(
                "p99 by route",
                "From the first byte to the last, over five minutes; the objective is dashed.",
                "s",
                Query(f"max by (route) (koine:request_duration_seconds:p99_5m{JOB})", "{{route}}"),
                steps=Steps(0.32, 0.64),
            )
        )
        .with_panel(
            lines(
                "Median by route",
                "Half of the requests are quicker.",
                "s",
                Query(f"max by (route) (koine:request_duration_seconds:p50_5m{JOB})", "{{route}}"),
            )
        )
        .with_panel(
            lines(
                "Stages, p99",
                "queue: load; decode: large images; forward: the model; read: slow clients.",
                "s",
                Query(f"max by (stage) (koine:stage_duration_seconds:p99_5m{JOB})", "{{stage}}"),
            )
        )
    )


def _queues(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Queues and batches"))
        .with_panel(
            lines(
                "Queues",
                "Items admitted and not yet taken.",
                "short",
                Query(f"sum by (queue) (koine_queue_items{JOB})", "{{queue}}"),
                span=6,
            )
        )
        .with_panel(
            lines(
                "Items in a forward pass",
                "Mean; near its limit the service is at its capacity.",
                "short",
                Query(f"max by (queue) (koine:batch_items:mean5m{JOB})", "{{queue}}"),
                span=6,
            )
        )
        .with_panel(
            lines(
                "Since the last forward pass",
                "Of the queue that waits longest. Fine while nothing is queued.",
                "s",
                Query(
                    f"max by (queue) (time() - koine_last_batch_timestamp_seconds{JOB})",
                    "{{queue}}",
                ),
                span=6,
            )
        )
        .with_panel(
            lines(
                "Requests under way",
                "Being read, waiting, computed or written.",
                "short",
                Query(f"sum(koine_inflight_requests{JOB})", "requests"),
                span=6,
            )
        )
    )


def _around(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Cache, dependencies, versions"))
        .with_panel(
            lines(
                "Cache hits and errors",
                "Shares of look-ups, by tier.",
                "percentunit",
                Query(f"max by (tier) (koine:cache_hits:ratio_rate5m{JOB})", "{{tier}} hits"),
                Query(f"max by (tier) (koine:cache_errors:ratio_rate5m{JOB})", "{{tier}} errors"),
                span=6,
            )
        )
        .with_panel(
            lines(
                "Redis, p99",
                "Waiting for it (get), writing to it (set).",
                "s",
                Query(QUANTILE.format("koine_cache_op_duration_seconds_bucket"), "{{op}}"),
                span=6,
            )
        )
        .with_panel(
            lines(
                "Memory of the cache",
                "What cached codes take in the processes.",
                "bytes",
                Query(f"sum(koine_cache_bytes{JOB})", "codes"),
                span=6,
            )
        )
        .with_panel(
            lines(
                "Shared and left out",
                "Items answered by another's computation; codes that were not written to Redis.",
                "cps",
                Query(f"sum(rate(koine_cache_shared_total{JOB}[$__rate_interval]))", "shared"),
                Query(
                    "sum by (reason) "
                    f"(rate(koine_cache_dropped_writes_total{JOB}[$__rate_interval]))",
                    "not written: {{reason}}",
                ),
                span=6,
            )
        )
        .with_panel(
            number(
                "Dependencies",
                "Whether every worker of every instance reaches it.",
                "none",
                Query(f"min by (dependency) (koine_dependency_up{JOB})", "{{dependency}}"),
                span=8,
                height=6,
                says={0: ("down", RED), 1: ("up", GREEN)},
                steps=Steps(1, 1, down=True),
            )
        )
        .with_panel(
            table(
                "What is served",
                "Versions, and by how many instances.",
                (
                    Column("version", "Koine"),
                    Column("dictionary", "Dictionary"),
                    Column("provider", "Runs on"),
                    Column("Value", "Instances"),
                ),
                Query(f"count by (version, dictionary, provider) (koine_build_info{JOB} == 1)"),
                span=16,
                height=6,
            )
        )
    )
