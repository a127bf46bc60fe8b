"""`tillstream run` with a fault: `python -m tests.support.faulty_worker FAULT[:COUNT] run …`.

The fault strikes at the COUNT-th batch (1 is the first). The product itself has no hooks for this: the faults are put
around its parts here, in one place.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from ops.cli import main
from streams.deadletters import DeadLetters
from streams.retry import PatientSink
from streams.window import WindowIndex


def die() -> None:
    """kill -9, by our own hand: nothing is flushed, closed or said."""
    os.kill(os.getpid(), signal.SIGKILL)


def fail() -> None:
    """A bug."""
    raise ZeroDivisionError("a bug that was put in")


def around(owner: type, name: str, strike: Callable[[], None], count: int, *, after: bool) -> None:
    """Makes the `count`-th call of `owner.name` strike, before or after its work."""
    work = getattr(owner, name)
    calls = 0

    def due() -> bool:
        nonlocal calls
        calls += 1
        return calls == count

    async def faulty_async(*args: Any, **kwargs: Any) -> Any:
        now = due()
        if now and not after:
            strike()
        result = await work(*args, **kwargs)
        if now and after:
            strike()
        return result

    def faulty(*args: Any, **kwargs: Any) -> Any:
        if due() and not after:
            strike()
        return work(*args, **kwargs)

    setattr(owner, name, faulty_async if owner in (PatientSink, DeadLetters) else faulty)


FAULTS: dict[str, tuple[type, str, Callable[[], None], bool]] = {
    "before-sink": (PatientSink, "write", die, False),
    "between-sink-and-seen": (WindowIndex, "add", die, False),
    "between-seen-and-dead-letters": (DeadLetters, "put", die, False),
    "between-dead-letters-and-ack": (DeadLetters, "put", die, True),
    "bug": (DeadLetters, "put", fail, False),
}

if __name__ == "__main__":
    name, _, number = sys.argv.pop(1).partition(":")
    owner, method, strike, after = FAULTS[name]
    around(owner, method, strike, int(number or 1), after=after)
    main()
