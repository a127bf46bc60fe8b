"""`tillstream inspect`: reads, reports, and drafts."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ops.files.layout import FileFormat, FileLayout, NotReadable, look
from ops.files.records import Progress as Told
from ops.inspect.draft import draft
from ops.inspect.findings import findings
from ops.inspect.render import report
from ops.inspect.survey import RecordSurvey, survey_file, survey_texts
from ops.inspect.topic import last_records
from streams.kafka.errors import TopicsUnusable
from streams.settings import Settings

LAST = 10_000  # records of a topic, if not stated
_FILE_ENDINGS = (".csv", ".json", ".jsonl", ".ndjson", ".xml", ".gz", ".txt", ".tsv")


def inspect(
    settings: Settings,
    name: str,
    *,
    sample: int | None,
    wanted: FileFormat | None,
    draft_to: Path | None,
    as_json: bool,
) -> None:
    """Says what the file or topic holds, and writes a contract if asked to. Raises NotReadable, TopicsUnusable, …."""
    if draft_to is not None and draft_to.exists():
        raise NotReadable(f"{draft_to} exists already; name another file, or remove it")
    path = Path(name)
    layout = None
    if path.is_file():
        layout = look(path, wanted)
        with bar(f"reading {path.name}", path.stat().st_size) as told:
            survey = survey_file(path, layout, sample, told)
    elif path.exists() or "/" in name or name.endswith(_FILE_ENDINGS):
        raise NotReadable(f"{name}: no such file")
    else:
        survey = survey_topic(settings, name, sample or LAST)
    if not survey.records:
        raise NotReadable(f"{name}: no record could be read" + (f" as {layout.format}" if layout else ""))
    found = findings(survey, layout)
    # Before the report, whose reader may have seen enough of it (`| head`).
    wrote = write_draft(survey, layout, path, draft_to) if draft_to is not None else None
    click.echo(json.dumps(found, ensure_ascii=False)) if as_json else report(found, name)
    if wrote is not None:
        click.echo(wrote, err=True)


def write_draft(survey: RecordSurvey, layout: FileLayout | None, path: Path, to: Path) -> str:
    """Writes the draft. Returns what to look at."""
    text = draft(survey, layout, path)
    try:
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise NotReadable(f"{to}: {error.strerror}") from None
    checks = text.count("# check:")
    return f"wrote {to}: it loads; look at its {checks} remarks `# check:`, then add examples"


def survey_topic(settings: Settings, topic: str, count: int) -> RecordSurvey:
    """The survey of a topic's last records. Raises as `last_records`, and NotReadable for what is binary."""
    with bar(f"reading {topic}", count) as told:
        records = last_records(settings, topic, count, told)
    values = [record.value for record in records if record.value]
    if not values:
        raise TopicsUnusable(f"the topic {topic} has no records with a value")
    wired = sum(value[:1] == b"\0" for value in values)
    if wired > len(values) / 2:
        number = int.from_bytes(values[-1][1:5], "big")
        raise NotReadable(f"{topic}: Avro or JSON Schema in Confluent's wire format, schema {number} of the registry")
    form = "xml" if sum(value.lstrip()[:1] == b"<" for value in values) > len(values) / 2 else "json"
    return survey_texts(form, (value.decode("utf-8", errors="replace") for value in values))


@contextmanager
def bar(what: str, total: int | None) -> Iterator[Told]:
    """A progress bar at a terminal, nothing elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    hidden = not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)
