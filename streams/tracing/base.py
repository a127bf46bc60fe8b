"""Traces of batches: off by default, and then nothing. With an endpoint in the settings `streams.tracing.otel` makes
them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from streams.batch import Batch, BatchOutcome
from streams.settings import Settings, SettingsError

#: Called with the batch's outcome.
Note = Callable[[BatchOutcome], None]


class Tracing(Protocol):
    """A span for each batch, and in it one for each step."""

    def batch(self, batch: Batch) -> AbstractContextManager[Note]:
        """Span for one batch. Exceptions are recorded on the span and re-raised."""
        ...

    def step(self, name: str, size: int) -> AbstractContextManager[object]:
        """Span for one step, with the number of its records, events or documents."""
        ...

    def close(self) -> None:
        """Send the spans that were not sent yet. Blocks for some seconds at most."""
        ...


class NoTracing:
    """No traces."""

    @contextmanager
    def batch(self, batch: Batch) -> Iterator[Note]:
        """Nothing."""
        yield _ignore

    def step(self, name: str, size: int) -> AbstractContextManager[object]:
        """Nothing."""
        return _NOTHING

    def close(self) -> None:
        """Nothing."""


def find_tracing(settings: Settings) -> Tracing:
    """Return the tracing of the settings. Raises SettingsError if the extra `tracing` is missing."""
    if settings.tracing is None:
        return NoTracing()
    try:
        from streams.tracing.otel import exporting  # its libraries are an extra
    except ImportError as error:
        raise SettingsError(f"tracing needs the extra `tracing`: pip install 'tillstream[tracing]' ({error})") from None
    return exporting(settings, settings.tracing)


_NOTHING = nullcontext()


def _ignore(_: BatchOutcome) -> None:
    pass
