"""`tillstream inspect`: read a file or topic, report its fields, and draft a contract."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ops.files.layout import FileFormat, FileLayout, NotReadable, look
from ops.files.records import Progress as OnProgress
from ops.inspect.draft import draft_contract
from ops.inspect.findings import findings
from ops.inspect.render import print_report
from ops.inspect.survey import RecordSurvey, survey_file, survey_texts
from ops.inspect.topic import last_records
from streams.kafka.errors import TopicsUnusable
from streams.settings import Settings

DEFAULT_LIMIT = 10_000  # records read from a topic, unless --sample says otherwise
_FILE_ENDINGS = (".csv", ".json", ".jsonl", ".ndjson", ".xml", ".gz", ".txt", ".tsv")


def inspect(
    settings: Settings,
    name: str,
    *,
    sample: int | None,
    file_format: FileFormat | None,
    draft_to: Path | None,
    as_json: bool,
) -> None:
    """Describe a file or topic, and write a draft contract to `draft_to`. Raises NotReadable and TopicsUnusable."""
    if draft_to is not None and draft_to.exists():
        raise NotReadable(f"{draft_to} already exists; name another file, or remove it")
    path = Path(name)
    layout = None
    if path.is_file():
        layout = look(path, file_format)
        with progress_bar(f"reading {path.name}", path.stat().st_size) as on_progress:
            survey = survey_file(path, layout, sample, on_progress)
    elif path.exists() or "/" in name or name.endswith(_FILE_ENDINGS):
        raise NotReadable(f"{name}: no such file")
    else:
        survey = survey_topic(settings, name, sample or DEFAULT_LIMIT)
    if not survey.records:
        raise NotReadable(f"{name}: no record could be read" + (f" as {layout.format}" if layout else ""))
    result = findings(survey, layout)
    # Write before reporting: the report's reader may close the pipe early (`| head`).
    message = write_draft(survey, layout, path, draft_to) if draft_to is not None else None
    click.echo(json.dumps(result, ensure_ascii=False)) if as_json else print_report(result, name)
    if message is not None:
        click.echo(message, err=True)


def write_draft(survey: RecordSurvey, layout: FileLayout | None, path: Path, to: Path) -> str:
    """Write the draft contract. Return a message that says what to check in it."""
    text = draft_contract(survey, layout, path)
    try:
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise NotReadable(f"{to}: {error.strerror}") from None
    checks = text.count("# check:")
    return f"wrote {to}: it loads as it is; go through its {checks} `# check:` comments, then add examples"


def survey_topic(settings: Settings, topic: str, count: int) -> RecordSurvey:
    """Survey a topic's last records. Raises the errors of `last_records`, and NotReadable for binary records."""
    with progress_bar(f"reading {topic}", count) as on_progress:
        records = last_records(settings, topic, count, on_progress)
    values = [record.value for record in records if record.value]
    if not values:
        raise TopicsUnusable(f"the topic {topic} has no records with a value")
    framed = sum(value[:1] == b"\0" for value in values)
    if framed > len(values) / 2:
        number = int.from_bytes(values[-1][1:5], "big")
        raise NotReadable(
            f"{topic}: its records are Avro or JSON Schema in Confluent's wire format (schema id {number}), which "
            "inspect can't read"
        )
    data_format = "xml" if sum(value.lstrip()[:1] == b"<" for value in values) > len(values) / 2 else "json"
    return survey_texts(data_format, (value.decode("utf-8", errors="replace") for value in values))


@contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[OnProgress]:
    """Show a progress bar on a terminal, and nothing elsewhere; yield the function that updates it."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    hidden = not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.update(task, completed=done)
