"""Generate schemas/published and docs/reference from the models, the metrics and the commands (`make schemas`)."""

import json
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.metrics import MetricWrapperBase

from ops.json_schema import json_schema
from ops.reference import cli_page, reasons_page, settings_page
from schemas.contract import Contract
from schemas.dead_letter import DeadLetter, Reason
from schemas.document import ErpDocument
from schemas.mapping import Mapping
from schemas.sale import SaleEvent
from streams.dead_letters.record import CONNECT, OWN
from streams.metrics import MOST_STORES, OTHER_STORES, ReconciliationMetrics, ScheduleMetrics, WorkerMetrics

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "schemas" / "published"
REFERENCE = ROOT / "docs" / "reference"
MODELS: dict[str, Any] = {
    "sale_event": SaleEvent,
    "erp_document": ErpDocument,
    "dead_letter": DeadLetter,
    "contract": Contract,
    "mapping": Mapping,
}


def published() -> dict[str, str]:
    """File name to content, all generated."""
    files = {
        f"{name}.schema.json": json.dumps(json_schema(model), indent=2, ensure_ascii=False) + "\n"
        for name, model in MODELS.items()
    }
    files["asyncapi.yaml"] = yaml.safe_dump(asyncapi(), sort_keys=False, allow_unicode=True, width=110)
    return files


def reference() -> dict[str, str]:
    """Return the generated pages of docs/reference, by file name."""
    return {
        "cli.md": cli_page(),
        "metrics.md": metrics_page(),
        "reasons.md": reasons_page(),
        "settings.md": settings_page(),
    }


def asyncapi() -> dict[str, Any]:
    """Return the topics, who sends and who receives, as AsyncAPI 3.0."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tillstream topics",
            "version": "1.0.0",
            "description": "Sales from the tills, and the records that could not become documents.",
        },
        "channels": {
            "sales": {
                "address": "pos.sales",
                "description": "Keyed by store, so that the order within a store is kept.",
                "messages": {"saleEvent": {"$ref": "#/components/messages/saleEvent"}},
            },
            "deadLetters": {
                "address": "pos.sales.dlq",
                "description": "Rejected records, key and value unchanged, headers added. One too large for this "
                "topic is truncated, and says so: the whole lies where it came from.",
                "messages": {"deadLetter": {"$ref": "#/components/messages/deadLetter"}},
            },
        },
        "operations": {
            "receiveSales": {"action": "receive", "channel": {"$ref": "#/channels/sales"}},
            "sendDeadLetters": {"action": "send", "channel": {"$ref": "#/channels/deadLetters"}},
        },
        "components": {
            "messages": {
                "saleEvent": {
                    "contentType": "application/json",
                    "payload": {
                        "schemaFormat": "application/schema+json;version=draft-2020-12",
                        "schema": {"$ref": "sale_event.schema.json"},
                    },
                },
                "deadLetter": {"headers": dead_letter_headers(), "payload": {"description": "The record's own value."}},
            }
        },
    }


def dead_letter_headers() -> dict[str, Any]:
    """Return the headers that are added to a rejected record."""
    text: dict[str, Any] = {"type": "string"}
    names = [CONNECT + name for name in ("topic", "partition", "offset", "stage")]
    names += [CONNECT + "exception.class.name", CONNECT + "exception.message"]
    names += [OWN + name for name in ("detail", "attempts", "first_failed_at", "last_failed_at")]
    of_event = ("event_id", "store", "receipt", "amount")
    optional = [OWN + name for name in (*of_event, "mapping_version", "replay_id", "truncated", "sha256")]
    properties = dict.fromkeys([*names, *optional], text)
    properties[OWN + "reason"] = {"type": "string", "enum": [reason.value for reason in Reason]}
    return {"type": "object", "properties": properties, "required": [*names, OWN + "reason"]}


METRICS_PAGE = """\
# Metrics

A worker serves these at `/metrics` (`http_host` and `http_port` in the settings). Every one of `--workers N` has a port
of its own: `http_port`, the next one, and so on; Prometheus scrapes each, and sums. The scrape configuration, the rules
and the alerts are in [deploy/prometheus](../../deploy/prometheus/prometheus.yml); what to do about each alert is in the
[runbooks](../runbooks/README.md).

Units are seconds, records and ratios. Labels have few values: `partition` those of the worker, `reason` the
[reasons of dead letters](reasons.md), `store` {most_stores} stores, and one series
`{others}` for all above. `python_…`, `process_…` and the like are not served. Metrics are updated once per batch, or
once a second.

Histograms are classic ones, with the buckets that the objectives need: the Python client makes no native ones yet
([client_python#1104](https://github.com/prometheus/client_python/pull/1104)), and writes them only for scrapes of
OpenMetrics 2.0. Prometheus 3 can keep them as native ones as well, next to the classic series that the rules ask
for: `convert_classic_histograms_to_nhcb` and `always_scrape_classic_histograms` in the scrape configuration.

| metric | type | labels | meaning |
| --- | --- | --- | --- |
{rows}

One worker counts the open dead letters of the whole topic, the one that has partition 0: sum them, or take the
maximum. `tillstream dlq stats --json` reports them by reason, store and money.

## Reconciliation

`tillstream schedule run` serves these of each schedule that reconciles, with an extra label `schedule`, at `/metrics`
of `schedules_port` ([schedules](../how-to/schedule-jobs.md)). They come from the schedules' history: they are there
after a restart, and after a run by hand. Where something else schedules it, `tillstream reconcile --metrics FILE`
writes them for the collector `textfile` of Prometheus' node exporter:

| metric | type | labels | meaning |
| --- | --- | --- | --- |
{reconciliation}

## Schedules

`tillstream schedule run` serves this of each schedule:

| metric | type | labels | meaning |
| --- | --- | --- | --- |
{schedules}
"""


def metrics_page() -> str:
    """Every metric, as a worker and a reconciliation define it, as tables."""
    return METRICS_PAGE.format(
        rows=_metric_rows(WorkerMetrics()),
        reconciliation=_metric_rows(ReconciliationMetrics()),
        schedules=_metric_rows(ScheduleMetrics()),
        most_stores=f"{MOST_STORES:,}",
        others=OTHER_STORES,
    )


def _metric_rows(metrics: WorkerMetrics | ReconciliationMetrics | ScheduleMetrics) -> str:
    # The library shows the labels of a metric in its samples alone, and some have none yet.
    labels = {
        metric._name: list(metric._labelnames)
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase)
    }
    rows = []
    for family in metrics.registry.collect():
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        of_it = labels.get(family.name) or (family.type == "info" and list(family.samples[0].labels)) or []
        rows.append(f"| `{name}` | {family.type} | {', '.join(map('`{}`'.format, of_it))} | {family.documentation} |")
    return "\n".join(sorted(rows))


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in published().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
    for name, content in reference().items():
        (REFERENCE / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
