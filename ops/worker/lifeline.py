"""A pipe whose other end is another process's: it ends with that process, however that came, `kill -9` included."""

import os
import signal
import threading


def drain_at_end_of(pipe: int) -> None:
    """Has this process get SIGTERM when nobody can write to `pipe` any more. Returns at once."""
    threading.Thread(target=_drain, args=(pipe,), name="lifeline", daemon=True).start()


def _drain(pipe: int) -> None:
    while os.read(pipe, 4096):  # what is written means nothing
        pass
    os.kill(os.getpid(), signal.SIGTERM)
