"""One import: each input is looked through, then sent or rehearsed, and reported on."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ops.importing.checkpoints import Checkpoint
from ops.importing.inputs import Input, as_file
from ops.importing.reading import Aside, Look, Receipt, header_of, look_through, receipts
from ops.importing.sending import Sender, send
from ops.importing.verdicts import Verdict, verdicts
from ops.inspect.layout import File, NotReadable
from ops.inspect.records import Progress
from schemas.contract import Contract
from streams.settings import Settings
from streams.topics import Lookout, partitions_of_topics

#: Bad lines that a report names.
_NAMED = 20


@dataclass(frozen=True)
class How:
    """How inputs are read: by which contract (None: canonical JSON), and what is not to be guessed."""

    contract: Contract | None
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None
    from_start: bool = False


@dataclass
class Report:
    """What became of one input.

    `sheet`: of a workbook that which was read; `left_out`: its others. `whole`: receipts that no bad line belongs to.
    `put_aside`: lines in the file `aside`, bad ones and those of the same receipts.
    """

    name: str
    found: Look
    sheet: str = ""
    left_out: tuple[str, ...] = ()
    whole: int = 0
    sent: int = 0
    resumed: int = 0
    refused: int = 0
    reason: str = ""
    put_aside: int = 0
    aside: Path | None = None
    verdicts: Counter[str] = field(default_factory=Counter)

    @property
    def is_clean(self) -> bool:
        """Whether everything in it has gone, or would."""
        return not (self.refused or self.found.bad or any(word.startswith("dead letter") for word in self.verdicts))

    def as_json(self) -> dict[str, Any]:
        """For machines, and for the history of schedules."""
        layout = self.found.layout
        return {
            "file": self.name,
            "format": layout.format,
            "encoding": layout.encoding,
            "gzip": layout.compressed,
            "delimiter": layout.delimiter,
            **({"sheet": self.sheet, "sheets_left_out": list(self.left_out)} if self.sheet else {}),
            "rows": self.found.rows,
            "rows_stand_together": self.found.together,
            "receipts": self.found.receipts,
            "whole": self.whole,
            "sent": self.sent,
            "sent_before": self.resumed,
            "refused": self.refused,
            "reason": self.reason,
            "bad_lines": len(self.found.bad),
            "bad": [each._asdict() for each in self.found.bad[:_NAMED]],
            "put_aside": self.put_aside,
            "aside": str(self.aside) if self.aside is not None else None,
            **({"verdicts": dict(self.verdicts)} if self.verdicts else {}),
        }


class Watcher:
    """Told how an import goes; this one does not care."""

    def heed(self, so_far: int) -> None:
        """It goes on."""

    def looks(self, name: str, file: File) -> Progress:
        """It is being looked through; the answer is told the position in the file."""
        return lambda _: None

    def sends(self, name: str, file: File, found: Look) -> tuple[Progress, Callable[[int], None]]:
        """It is being sent; the answers are told the position, and how many receipts have gone."""
        return (lambda _: None), (lambda _: None)


def import_one(settings: Settings, one: Input, how: How, watcher: Watcher, sender: Sender) -> Report:
    """Sends an input's receipts to the settings' topic.

    Goes on behind what an import of the same bytes had confirmed when it ended early. Raises NotReadable,
    BrokerUnreachable, and for queries SinkUnavailable and SinkMisconfigured.
    """
    confirmed, refused = sender.confirmed, sender.failed
    with as_file(one, how.contract, how.encoding, how.sheet) as (file, sheet, left_out):
        found = look_through(file, how.contract, watcher.looks(one.name, file), how.encoding, how.delimiter)
        report = Report(one.name, found, sheet, left_out)
        checkpoint = Checkpoint(settings, found, how.contract)
        if not how.from_start:
            report.resumed = checkpoint.read(lambda: _ends(settings))
        told, counted = watcher.sends(one.name, file, found)
        with _put_aside(one, report) as aside:
            made = receipts(file, found, how.contract, told, aside)
            report.whole = send(one.name, made, sender, checkpoint, report.resumed, counted)
    report.sent, report.refused = sender.confirmed - confirmed, sender.failed - refused
    report.reason = sender.reason if report.refused else ""
    if not report.refused:
        checkpoint.remove()
    return report


def import_all(
    settings: Settings, todo: Sequence[Input], how: How, watcher: Watcher, sender: Sender
) -> Iterator[Report | str]:
    """A report for each input, or why it can't be read. Raises as `import_one`, but for NotReadable."""
    for one in todo:
        try:
            yield import_one(settings, one, how, watcher, sender)
        except NotReadable as error:  # the others are none the worse
            yield str(error)


def rehearse_one(settings: Settings, one: Input, how: How, watcher: Watcher, say: Callable[[Verdict], None]) -> Report:
    """Says the line's verdict on each of an input's receipts; nothing is sent or written. Raises as `import_one`."""
    with as_file(one, how.contract, how.encoding, how.sheet) as (file, sheet, left_out):
        found = look_through(file, how.contract, watcher.looks(one.name, file), how.encoding, how.delimiter)
        report = Report(one.name, found, sheet, left_out)
        told, counted = watcher.sends(one.name, file, found)
        aside = Aside(header_of(found.layout), lambda _: None)

        def counting(made: Iterator[Receipt]) -> Iterator[Receipt]:
            for report.whole, receipt in enumerate(made, 1):
                yield receipt

        for verdict in verdicts(settings, counting(receipts(file, found, how.contract, told, aside))):
            report.verdicts[verdict.word] += 1
            counted(report.whole)
            say(verdict)
        report.put_aside = aside.lines
    return report


def _ends(settings: Settings) -> dict[int, int]:
    partitions = partitions_of_topics(settings)[settings.topic]
    ends = Lookout(settings, partitions).ends(range(partitions))
    return {partition: end.stable for partition, end in ends.items()}


@contextmanager
def _put_aside(one: Input, report: Report) -> Iterator[Aside]:
    """Where bad lines go: a file that is there when the import is done, and only if there were any."""
    ending = {"csv": "csv", "json_lines": "jsonl"}.get(report.found.layout.format, "txt")
    growing = one.beside.with_name(f".{one.beside.name}.bad.part")
    opened: list[IO[str]] = []

    def put(text: str) -> None:
        if not opened:
            opened.append(growing.open("w", encoding="utf-8", errors="surrogateescape", newline=""))
        opened[0].write(text)

    aside = Aside(header_of(report.found.layout), put)
    try:
        yield aside
    finally:
        for file in opened:
            file.close()
    report.put_aside = aside.lines
    if opened:
        report.aside = _free(one.beside, ending, growing.read_bytes())
        growing.replace(report.aside)


def _free(beside: Path, ending: str, content: bytes) -> Path:
    """A name that is free, or whose file is the same: what somebody has begun to repair is not written over."""
    number = 1
    while True:
        path = beside.with_name(f"{beside.name}.bad{f'-{number}' if number > 1 else ''}.{ending}")
        if not path.exists() or path.read_bytes() == content:
            return path
        number += 1
