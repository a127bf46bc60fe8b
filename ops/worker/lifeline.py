"""A pipe to a parent process: it closes when the parent ends, for any reason, `kill -9` included."""

import os
import signal
import threading


def drain_at_end_of(pipe: int) -> None:
    """Send this process SIGTERM once nobody can write to `pipe` any more. Returns at once."""
    threading.Thread(target=_drain, args=(pipe,), name="lifeline", daemon=True).start()


def _drain(pipe: int) -> None:
    while os.read(pipe, 4096):  # any data is ignored
        pass
    os.kill(os.getpid(), signal.SIGTERM)
