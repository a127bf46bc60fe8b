"""Waiting for conditions rather than for time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], timeout: float = 90, what: str = "") -> T:
    """Polls `predicate` until it is true, and returns its value; after `timeout` seconds an AssertionError.

    `what` completes the sentence "waited 30 s for …". Blocks: async tests `await asyncio.to_thread(wait_until, …)`.
    """
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {what or predicate}; last seen: {value!r}")
        time.sleep(0.05)
    return value
