"""Tryton's master data, remembered for a while: points of sale, means of payment, articles."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from threading import Lock
from typing import Any

from sinks.base import SinkUnavailable
from sinks.tryton.rpc import LANGUAGE, TrytonClient

#: Seconds that master data are remembered for.
FRESH = 300.0
#: Missing records are looked up again, but not more often than this.
_LOOK_AGAIN = 5.0
SALE = "model.sale.point.sale."


@dataclass(frozen=True, slots=True)
class TrytonArticle:
    """An article: Tryton's id, places of its quantities, its tax in percent, whether it may be sold."""

    id: int
    digits: int
    rate: Decimal
    salable: bool


@dataclass(frozen=True, slots=True)
class CompanyFacts:
    """The company and the user's rights in it, from Tryton; points of sale and payment methods by the tills' codes."""

    version: str
    company: int
    company_name: str
    currency: str
    digits: int
    price_digits: int
    missing_groups: list[str]
    has_period: bool
    points: dict[str, int]
    points_without_return: list[str]
    methods: dict[str, int]
    cash: bool


class TrytonMasterData:
    """Asks Tryton, or remembers. From any thread."""

    def __init__(self, client: TrytonClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._company: int | None = None
        self._facts: tuple[float, CompanyFacts] | None = None
        self._items: dict[tuple[str, date], tuple[float, TrytonArticle]] = {}
        self._lock = Lock()

    def context(self) -> dict[str, Any]:
        """Return the context of every call: the user's company, and the language."""
        if self._company is None:
            told = self._client.call("model.res.user.get_preferences", True, {})
            if told.get("company") is None:
                raise SinkUnavailable("privilege", "Tryton: the user has no company; choose one for it")
            self._company = int(told["company"])
        return {"company": self._company, "language": LANGUAGE}

    def facts(self, *, no_older_than: float = FRESH, on: date | None = None) -> CompanyFacts:
        """Return the facts; `has_period` is about the day `on`, if given, and then they are queried again."""
        with self._lock:
            now = self._clock()
            if on is None and self._facts is not None and now - self._facts[0] < no_older_than:
                return self._facts[1]
            facts = _facts(self._client.call(f"{SALE}till_facts", on, self.context()))
            self._facts = now, facts
            return facts

    def point(self, code: str, default: str | None) -> int | None:
        """Return the point of sale that the tills call `code`; else the one named `default`."""
        found = self._named("points", code)
        return self._named("points", default) if found is None and default is not None else found

    def method(self, code: str) -> int | None:
        """Return the means of payment that the tills call `code`."""
        return self._named("methods", code)

    def _named(self, what: str, code: str) -> int | None:
        found: int | None = getattr(self.facts(), what).get(code.casefold())
        if found is None:
            found = getattr(self.facts(no_older_than=_LOOK_AGAIN), what).get(code.casefold())
        return found

    def items(self, codes: Iterable[str], day: date) -> dict[str, TrytonArticle]:
        """Return the existing articles by the requested codes; their taxes are those of `day`."""
        wanted = set(codes)
        oldest = self._clock() - FRESH
        with self._lock:
            known = {code: self._items[code, day] for code in wanted if (code, day) in self._items}
        found = {code: item for code, (asked, item) in known.items() if asked >= oldest}
        missing = sorted(wanted - found.keys())
        if missing:
            told = self._client.call(f"{SALE}till_items", missing, day, self.context())
            new = {code: TrytonArticle(**fields) for code, fields in told.items()}
            now = self._clock()
            with self._lock:
                self._items = {key: entry for key, entry in self._items.items() if entry[0] >= oldest}
                self._items |= {(code, day): (now, item) for code, item in new.items()}
            found |= new
        return found


def _facts(told: dict[str, Any]) -> CompanyFacts:
    company = told["company"]
    return CompanyFacts(
        version=told["version"],
        company=company["id"],
        company_name=company["name"],
        currency=company["currency"],
        digits=company["digits"],
        price_digits=told["price_digits"],
        missing_groups=told["missing_groups"],
        has_period=told["period"],
        points=_by_name(told["points"]),
        points_without_return=[point["name"] for point in told["points"] if not point["returns"]],
        methods=_by_name(told["methods"]),
        cash=any(method["cash"] for method in told["methods"]),
    )


def _by_name(records: list[dict[str, Any]]) -> dict[str, int]:
    """Ids by the till's code, and by the name of those that have none."""
    names = {record["name"].casefold(): record["id"] for record in records if not record["code"]}
    return names | {record["code"].casefold(): record["id"] for record in records if record["code"]}
