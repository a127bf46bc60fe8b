"""`tillstream check`: finds everything that would keep a worker from starting, with advice."""

import json
import sys

import click
from rich.console import Console
from rich.table import Table

from sinks.base import PreflightFinding, SinkMisconfigured, SinkUnavailable
from sinks.registry import open_sink
from sinks.url import shown
from streams.assembly import find_master_data
from streams.kafka.errors import BrokerUnreachable, TopicsUnusable
from streams.kafka.topics import (
    check_record_sizes,
    create_source_topic,
    ensure_dead_letter_topics,
    ensure_topics,
    partitions_of_topics,
)
from streams.mapping.master_data import NoMasterData
from streams.settings import KafkaAccess, Settings, TopicPlan
from streams.sources.contracts import ContractError

WRONG_USAGE, UNREACHABLE = 2, 3
WIDTH = 120  # of tables, when the output isn't a terminal


def run_checks(settings: Settings, *, apply: bool) -> tuple[list[PreflightFinding], int]:
    """Return all findings and the exit code: 0 no problem, 2 something to fix, 3 a component can't be reached."""
    kafka, kafka_code = check_kafka(settings.kafka_access, settings.topic_plan, apply=apply)
    sink, sink_code = check_sink(settings, apply=apply)
    mapping, mapping_code = check_mapping(settings)
    return [*kafka, *sink, *mapping], max(kafka_code, sink_code, mapping_code)


def check_kafka(access: KafkaAccess, plan: TopicPlan, *, apply: bool) -> tuple[list[PreflightFinding], int]:
    """Check the broker and the topics."""
    subject = f"broker {access.servers}"
    try:
        if apply:
            creating = plan._replace(create=True)
            create_source_topic(access, creating, creating.partitions)
            ensure_topics(access, creating)
            ensure_dead_letter_topics(access, creating)
        there = partitions_of_topics(access)
    except BrokerUnreachable as error:
        return [PreflightFinding(subject, False, "unreachable", str(error))], UNREACHABLE
    except TopicsUnusable as error:
        return [
            PreflightFinding(subject, True, "reachable"),
            PreflightFinding("topics", False, "unusable", str(error)),
        ], WRONG_USAGE
    findings = [PreflightFinding(subject, True, "reachable"), *topic_findings(access, plan, there)]
    return findings, 0 if all(finding.ok for finding in findings) else WRONG_USAGE


def topic_findings(access: KafkaAccess, plan: TopicPlan, there: dict[str, int]) -> list[PreflightFinding]:
    """Return one finding per topic that a worker needs."""
    names = plan.names
    partitions = there.get(names.source)
    findings = []
    for topic in (names.source, names.dead_letters, names.changelog):
        subject = f"topic {topic}"
        if topic not in there:
            is_own = topic != names.source
            advice = "tillstream check --apply creates it"
            if not is_own:
                advice += f", with {plan.partitions} partitions (`partitions`); or set `topic`"
            # A worker creates the topics it writes to, if it is allowed to.
            missing_is_fine = is_own and plan.create and partitions is not None
            detail = "missing, a worker creates it" if missing_is_fine else "missing"
            findings.append(PreflightFinding(subject, missing_is_fine, detail, advice))
        elif topic == names.changelog and there[topic] != partitions:
            findings.append(
                PreflightFinding(
                    subject, False, f"{there[topic]} partitions, not {partitions}", "delete it, it is only a cache"
                )
            )
        else:
            findings.append(PreflightFinding(subject, True, f"{there[topic]} partitions"))
    for topic in (names.parked, names.audit):
        missing = "missing, created when needed" if plan.create else "missing"
        detail = f"{there[topic]} partition{'s' * (there[topic] != 1)}" if topic in there else missing
        is_fine = topic in there or plan.create
        findings.append(PreflightFinding(f"topic {topic}", is_fine, detail, "tillstream check --apply creates it"))
    if names.source in there and names.dead_letters in there:
        too_small = check_record_sizes(access, plan)
        if too_small is not None:
            findings.append(PreflightFinding("record size", False, "dead letters may not fit", too_small))
    return findings


def check_sink(settings: Settings, *, apply: bool) -> tuple[list[PreflightFinding], int]:
    """Check the sink and its schema."""
    subject = f"sink {shown(settings.sink_url)}"
    try:
        sink = open_sink(settings.sink_url, password=settings.password())
        try:
            findings = sink.check(apply=apply)
        finally:
            sink.close()
    except SinkMisconfigured as error:
        return [PreflightFinding(subject, False, "misconfigured", str(error))], WRONG_USAGE
    except SinkUnavailable as error:
        return [PreflightFinding(subject, False, "unreachable", str(error))], UNREACHABLE
    return findings, 0 if all(finding.ok for finding in findings) else WRONG_USAGE


def check_mapping(settings: Settings) -> tuple[list[PreflightFinding], int]:
    """Check the mapping and its tables, if the settings have one."""
    subject = f"mapping {settings.mapping}"
    try:
        master_data = find_master_data(settings)
        if isinstance(master_data, NoMasterData):
            return [], 0
        mapper = master_data.load()
    except ContractError as error:
        return [PreflightFinding(subject, False, "can't be used", str(error))], WRONG_USAGE
    except SinkUnavailable as error:
        return [PreflightFinding(subject, False, "a table's database is unreachable", str(error))], UNREACHABLE
    rows = ", ".join(f"{count} {name}" for name, count in mapper.rows.items())
    return [PreflightFinding(subject, True, f"{mapper.label}: {rows or 'no tables'}")], 0


def report_findings(findings: list[PreflightFinding], *, as_json: bool) -> None:
    """Print the findings as a table, or as one JSON object."""
    if as_json:
        rows = [{"subject": f.subject, "ok": f.ok, "detail": f.detail, "advice": f.advice} for f in findings]
        click.echo(json.dumps({"ok": all(f.ok for f in findings), "findings": rows}))
        return
    table = Table(box=None, header_style="bold")
    for heading in ("", "subject", "found", "advice"):
        table.add_column(heading, overflow="fold")  # an address is useless without its end
    for finding in findings:
        mark = "[green]ok[/]" if finding.ok else "[red]wrong[/]"
        table.add_row(mark, finding.subject, finding.detail, "" if finding.ok else finding.advice)
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
