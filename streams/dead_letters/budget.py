"""The rejection budget, which stops the worker before a bad deploy turns a whole topic into dead letters."""

from collections import deque
from collections.abc import Iterable

#: Rejections allowed when the budget is switched off, because a person has decided to let them through.
NO_LIMIT = 10**12


class BudgetExceeded(Exception):
    """Too many records were rejected: our mapping or rules are the likelier cause. Nothing more may be
    dead-lettered."""


class BudgetGuard:
    """Limits the share of rejections among the latest `sample` records, batch by batch.

    A batch passes if there are at most ratio × sample rejections among those records, its own included, or if its own
    share of rejections is at most `ratio`. A topic of nothing but rejections therefore stops after ratio × sample of
    them, or sooner, after more than `max_consecutive` rejections in a row.
    """

    def __init__(self, ratio: float, sample: int, max_consecutive: int | None = None) -> None:
        self._max_rejected = max(1, int(ratio * sample))
        self._sample = sample
        self._max_consecutive = max_consecutive
        self._run = 0
        self._latest: deque[tuple[int, int]] = deque()
        self._records = self._rejected = 0

    @property
    def used(self) -> float:
        """The share of the budget that is used up: 1 is all of it."""
        return self._rejected / self._max_rejected

    def reset(self) -> None:
        """Start counting from zero."""
        self._latest.clear()
        self._records = self._rejected = self._run = 0

    def spend(self, records: int, rejected: int, flags: Iterable[bool] = ()) -> None:
        """Count a batch. Raises BudgetExceeded, and counts nothing, if its rejections exceed the budget.

        `flags` says for each record, in order, whether it is rejected; it may be left out if none is.
        """
        run = self._run_after(flags) if rejected else 0
        fits = (
            self._rejected + rejected <= self._max_rejected or rejected <= self._max_rejected * records / self._sample
        )
        if not fits:
            raise BudgetExceeded(
                f"{self._rejected + rejected} of the latest {self._records + records} records would be dead letters, "
                f"the budget is {self._max_rejected} in {self._sample}; find the common cause; then correct the "
                "mapping, or restart with the correct version, or send SIGUSR1 to accept them as dead letters"
            )
        self._run = run
        self._latest.append((records, rejected))
        self._records += records
        self._rejected += rejected
        while self._records - self._latest[0][0] >= self._sample:
            old_records, old_rejected = self._latest.popleft()
            self._records -= old_records
            self._rejected -= old_rejected

    def _run_after(self, flags: Iterable[bool]) -> int:
        """Return the length of the run of rejections at the end of the batch. Raises BudgetExceeded if a run is too
        long."""
        run = self._run
        for rejected in flags:
            run = run + 1 if rejected else 0
            if self._max_consecutive is not None and run > self._max_consecutive:
                raise BudgetExceeded(
                    f"more than {self._max_consecutive} records in a row would be dead letters; find the common "
                    "cause; then correct the mapping, or restart with the correct version, or send SIGUSR1 to accept "
                    "them as dead letters"
                )
        return run
