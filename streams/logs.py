"""Logs: JSON lines for machines, colours for people at a terminal. Library loggers go the same way, damped."""

import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal

import structlog

#: These say at level info what only their developers need, and at level debug every record they send.
CHATTY = ("aiokafka", "faust", "mode", "asyncio", "alembic")
#: These say the same thing hundreds of times a second while a broker is away.
DAMPED = ("aiokafka", "faust", "mode", "asyncio", "kafka")
#: Seconds of silence after a library's message; doubled each time that it was needed.
FIRST_SILENCE, LONGEST_SILENCE = 10.0, 600.0
#: Number of distinct kinds of messages; further ones share one kind per logger.
MOST_KINDS = 500
_NUMBERS = re.compile(r"\d+")


@dataclass(slots=True)
class _MessageKind:
    """One kind of message: until when it is silent, and how many were suppressed since the last one."""

    until: float = 0.0
    silence: float = FIRST_SILENCE
    suppressed: int = 0


class LogDamper(logging.Filter):
    """Lets a library's warning through once, then again after a silence that doubles up to ten minutes.

    A message that is let through says in `suppressed` how many like it were not. Messages are alike when they differ
    in numbers and arguments alone. Our own messages always pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = Lock()
        self._kinds: dict[tuple[str, str], _MessageKind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether `record` is to be written."""
        if record.levelno < logging.WARNING or record.name.partition(".")[0] not in DAMPED:
            return True
        with self._lock:
            kind = self._kind_of(record)
            now = self._clock()
            if now < kind.until:
                kind.suppressed += 1
                return False
            if kind.suppressed:
                record.suppressed = kind.suppressed
                kind.silence = min(kind.silence * 2, LONGEST_SILENCE)
            else:
                kind.silence = FIRST_SILENCE
            kind.until = now + kind.silence
            kind.suppressed = 0
            return True

    def take_suppressed(self, *, also_ongoing: bool = True) -> Counter[str]:
        """Return by logger how many messages were suppressed that none has reported, and begin again with those kinds.

        Without `also_ongoing` only of kinds whose silence is over, and that nothing was heard of since.
        """
        now = self._clock()
        taken: Counter[str] = Counter()
        with self._lock:
            for like in [like for like, kind in self._kinds.items() if also_ongoing or now >= kind.until]:
                taken[like[0]] += self._kinds.pop(like).suppressed
        return +taken

    def _kind_of(self, record: logging.LogRecord) -> _MessageKind:
        like = (record.name, _NUMBERS.sub("#", str(record.msg))[:100])
        if like not in self._kinds and len(self._kinds) >= MOST_KINDS:
            like = (record.name, "")
        return self._kinds.setdefault(like, _MessageKind())


#: The one of this process.
damper = LogDamper()


def report_suppressed() -> None:
    """Log how many library messages were suppressed, where no later one has said so."""
    for name, number in damper.take_suppressed(also_ongoing=False).items():
        structlog.get_logger("tillstream.logs").warning("library messages suppressed", library=name, suppressed=number)


def set_up_logs(form: Literal["auto", "json", "console"] = "auto", level: str = "info") -> None:
    """Send every log line to standard error, once per process."""
    people = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not people:
        shared.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: Any = (
        # Rich tracebacks show local variables: events, and with them customers.
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if people
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(["suppressed"]), *shared],
        )
    )
    handler.addFilter(damper)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
