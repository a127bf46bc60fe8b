"""Panels that more than one page shows."""

from deploy.grafana.panels import Panel, Steps, graph, stat, states, variable

DAY = 86400
#: The objective of deploy/prometheus/rules.yml: this share of the events may take more than 60 s.
ALLOWED = 0.01
YES: Steps = [(None, "red"), (1, "green")]
NO: Steps = [(None, "green"), (1, "red")]
BEHIND: Steps = [(None, "green"), (60, "orange"), (300, "red")]
SOME: Steps = [(None, "green"), (1, "orange")]
LATE: Steps = [(None, "green"), (ALLOWED, "orange"), (6 * ALLOWED, "red")]

OVER = "job:tillstream_event_to_commit_over_60s"
NEWEST = "job_store:tillstream_store_newest_event_timestamp_seconds:max"
JOB = variable("job", "label_values(tillstream_build_info, job)")
JOB["current"] = {"text": "tillstream", "value": "tillstream"}


def quantiles(metric: str, matchers: str) -> dict[str, str]:
    """Median and 99th percentile of a histogram."""
    buckets = f"sum by (le) (rate({metric}_bucket{{{matchers}}}[$__rate_interval]))"
    return {name: f"histogram_quantile({q}, {buckets})" for name, q in (("median", 0.5), ("99 %", 0.99))}


def behind() -> Panel:
    says = "Age of the oldest record that is at hand and not in the ERP. 300 s for five minutes is an alert."
    return stat("The ERP is behind by", says, "s", 'max(tillstream_lag_seconds{job="$job"})', BEHIND, decimals=0)


def sink_up() -> Panel:
    says = "Whether the ERP's database takes the writes of every worker. If not: docs/runbooks/sink-down.md."
    return stat("Sink up", says, "none", 'min(tillstream_sink_up{job="$job"})', YES, {0: "NO", 1: "yes"})


def held() -> Panel:
    says = "Whether the dead-letter budget holds a worker. If so: docs/runbooks/held.md."
    return stat("Held", says, "none", 'max(tillstream_held{job="$job"})', NO, {0: "no", 1: "YES"})


def dead_letters_of_a_day() -> Panel:
    says = "Records put into the dead-letter topic. How many are open: tillstream dlq stats."
    query = 'sum(increase(tillstream_events_rejected_total{job="$job"}[24h]))'
    return stat("Dead letters in 24 h", says, "short", query, SOME, decimals=0)


def late_share() -> Panel:
    says = "Share of the events of six hours that took more than 60 s; 1 % may."
    return stat("Late in 6 h", says, "percentunit", f'{OVER}:ratio_rate6h{{job="$job"}}', LATE, decimals=2)


def budget_left() -> Panel:
    says = "What is left of the events of 30 days that may take more than 60 s. Below 0: the objective is missed."
    steps: Steps = [(None, "red"), (0.1, "orange"), (0.5, "green")]
    query = f'1 - {OVER}:ratio_rate30d{{job="$job"}} / {ALLOWED}'
    return stat("Error budget left", says, "percentunit", query, steps, decimals=0)


def latency() -> Panel:
    says = "From the record's Kafka timestamp to its commit in the sink. The objective is 99 % within 60 s."
    queries = quantiles("tillstream_event_to_commit_seconds", 'job="$job"')
    return graph("From the till to the ERP", says, "s", queries, limit=60)


def dead_letters_by_reason() -> Panel:
    says = "Per minute. What each reason means and what to do: docs/reference/reasons.md."
    rate = 'sum by (reason) (rate(tillstream_events_rejected_total{job="$job"}[$__rate_interval]))'
    return graph("Dead letters by reason", says, "recpm", {"{{reason}}": f"{rate} * 60 > 0"}, stacked=True)


def waiting() -> Panel:
    says = "Dead letters that workers take up again by themselves, by reason: refunds that came before their sale."
    query = 'sum by (reason) (tillstream_dead_letters_waiting{job="$job"})'
    return graph("Waiting for another try", says, "short", {"{{reason}}": query}, decimals=0)


def alerts(more: str = "", job: str = "$job") -> Panel:
    says = "What Prometheus is about to tell, or tells. Every alert has a page: docs/runbooks."
    matchers = f'job="{job}"{more}'
    # A firing alert has no pending series; page and ticket alerts of one name are shown together.
    query = (
        f'max by (alertname) (ALERTS{{{matchers},alertstate="firing"}} * 2'
        f' or ALERTS{{{matchers},alertstate="pending"}})'
    )
    steps: Steps = [(None, "green"), (1, "orange"), (2, "red")]
    return states("Alerts", says, {"{{alertname}}": query}, {1: "pending", 2: "firing"}, steps)
