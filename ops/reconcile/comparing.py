"""The book of what was sent against what the ERP holds, a store's day at a time, explained to the record.

A day whose sums agree is not looked into: its documents stay where they are. A day whose sums (or, `deep`, whose
digests) differ is, and one that was noted as different before: its documents come in short, a line each, and are laid
beside the receipts of the book.
"""

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

from ops.reconcile.book import NOWHERE, Book, Close, Fact, Figures, Key, Letter, as_date
from ops.reconcile.naming import (
    came_of,
    changed_sums,
    changes,
    in_places,
    in_words,
    is_as_read,
    original_of,
    parts_in_words,
)
from schemas.document import ErpDocument
from sinks.base import DocumentPrint, Forgetful, Fragmentary, Remembering, Sink, StoreDay
from sinks.prints import added, from_digits
from sinks.values import AMOUNT_PLACES, from_scaled

#: `open`: the business day is not over. `closed`: it is, but records of it still wait for the worker, or the topic does
#: not have all of it any more. Then the two that count, and what a person says of them.
State = Literal["open", "closed", "balanced", "differs", "signed off"]
Kind = Literal[
    "missing", "only_in_erp", "doubled", "altered", "older_revision", "other_content", "moved", "vanished",
    "refused_today", "register", "orphaned"
]  # fmt: skip

#: Where what has no store and no day is told of.
_NO_STORE = ("", NOWHERE)

MEANING: dict[Kind, str] = {
    "missing": "sent and acknowledged, but not in the ERP",
    "only_in_erp": "in the ERP, but no till sent it",
    "doubled": "in the ERP a second time, under another reference",
    "altered": "what the ERP holds is not what the till sent",
    "older_revision": "the ERP holds an earlier revision than the till sent",
    "other_content": "the ERP holds something else under this reference",
    "moved": "the ERP holds it on another day or in another store",
    "vanished": "sent and acknowledged, but neither in the ERP nor a dead letter",
    "refused_today": "in the ERP, but today's rules would refuse it: its amounts can't be compared",
    "orphaned": "parts without a document are in the ERP, or a document without its delivery",
    "register": "the register's own total is not that of the receipts it sent: some never came, or can't be read",
}


@dataclass
class Difference:
    """One thing on which tills and ERP disagree, and the command that repairs it."""

    kind: Kind
    store: str
    day: str
    currency: str
    ref: str
    detail: str
    place: str = ""
    sent: Decimal | None = None
    held: Decimal | None = None
    repair: str = ""


@dataclass
class Account:
    """A store's day in one currency. `counts`: of each fate the events and their gross; `due` and `held`: sums."""

    currency: str
    counts: dict[str, tuple[int, Decimal]] = field(default_factory=dict)
    due: Figures = field(default_factory=Figures)
    held: Figures = field(default_factory=Figures)
    #: What the digest of `due` differs by from that of documents which are as good: see `accept`.
    shift: int = 0
    #: How many such documents there are.
    accepted: int = 0

    @property
    def agrees(self) -> bool:
        """Whether the sums are the same; and the digests, where the ERP's were asked for."""
        if self.held.receipts and self.held.digest is not None:
            if self.due.digest is None or self.held.unremembered:
                return False
            if added([from_digits(self.due.digest), self.shift]) != from_digits(self.held.digest):
                return False
            if self.held.personal not in (None, self.due.personal):
                return False
        return _sums(self.due) == _sums(self.held)

    def accept(self, due: str, held: str) -> None:
        """Count a document with the print `held` for the one with the print `due`: nothing that was sent differs."""
        self.shift += from_digits(held) - from_digits(due)
        self.accepted += 1

    def count(self, *fates: str) -> int:
        """Events with one of these fates; all of them without."""
        return sum(count for fate, (count, _) in self.counts.items() if not fates or fate in fates)


@dataclass
class Day:
    """What is known of a store's business day. `noted`: of how many events no document is made, by why."""

    store: str
    day: str
    accounts: list[Account]
    state: State
    differences: list[Difference] = field(default_factory=list)
    letters: list[Fact] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    noted: dict[str, int] = field(default_factory=dict)
    arrived: int = 0

    def account(self, currency: str) -> Account:
        """The day in this currency."""
        return next(account for account in self.accounts if account.currency == currency)

    def count(self, *fates: str) -> int:
        """As `Account.count`, in all currencies."""
        return sum(account.count(*fates) for account in self.accounts)


def settle_letters(book: Book, letters: Iterable[Letter], sink: Sink, most: int = 1_000) -> None:
    """Puts the dead letters in. Those whose receipt the ERP holds, just as their record says, came through."""
    book.add_letters(letters)
    asked = list(book.lettered())
    for start in range(0, len(asked), most):
        part = asked[start : start + most]
        held = {document.external_ref: document for document in sink.read([each.ref for each in part])}
        book.came_through(each.row for each in part if each.ref in held and came_of(each, held[each.ref]))


@dataclass
class Terms:
    """What a comparison is made by.

    `ends`: when a store's business day is over. `reach`: the topic has lost records of this day, or of days before.
    `whole`: it was read from its beginning. Only `store`, and the days from `first` to `last`, are told of, if stated.
    `doubtful`: days that are looked into even if their sums agree, as more was found of them before. `deep`: parts
    without a document are looked for. `sent` gives the documents of receipts again, by reference, from their records.
    """

    now: datetime
    ends: Callable[[str, date], datetime]
    reach: date | None = None
    whole: bool = True
    store: str | None = None
    first: date = date.min
    last: date = date.max
    doubtful: Container[tuple[str, str]] = ()
    deep: bool = True
    sent: Callable[[Sequence[Fact]], dict[str, ErpDocument]] = lambda facts: {}

    def wants(self, store: str, day: str) -> bool:
        """Whether the store's day is to be told of."""
        if day == NOWHERE:
            return self.store is None and (self.first, self.last) == (date.min, date.max)
        return self.store in (None, store) and self.first <= as_date(day) <= self.last

    def is_over(self, store: str, day: str) -> bool:
        """Whether the business day is."""
        return self.ends(store, as_date(day)) <= self.now

    def reaches(self, day: str) -> bool:
        """Whether the topic has all of the day."""
        return self.reach is None or as_date(day) > self.reach


def compare(book: Book, sink: Sink, held: Sequence[StoreDay], terms: Terms) -> list[Day]:
    """Every store's day that was sent, or that the ERP holds. `held` was asked for before the topic was read."""
    accounts = _accounts(book, held)
    gaps, noted, arrived = book.gaps(), book.noted(), book.arrived_last()
    registers = defaultdict(list)
    for difference in _registers(book, whole=terms.whole):
        registers[difference.store, difference.day].append(difference)
    orphans = _orphans(book, sink, terms)
    if orphans or _NO_STORE in terms.doubtful:  # which may be settled now
        accounts = {_NO_STORE: accounts.pop(_NO_STORE, []), **accounts}
        registers[_NO_STORE] += orphans
    days: list[Day] = []
    for (store, name), of_day in accounts.items():
        if not terms.wants(store, name):
            continue
        day = Day(
            store, name, of_day, "closed", gaps=gaps.get((store, name), []), arrived=arrived.get((store, name), 0)
        )
        day.letters = list(book.dead(store, name))
        day.noted = noted.get((store, name), {})
        if name == NOWHERE or terms.reaches(name):
            day.differences = explain(book, sink, day, terms) + registers[store, name]
        day.state = _state(day, terms)
        days.append(day)
    return days


def _accounts(book: Book, held: Sequence[StoreDay]) -> dict[tuple[str, str], list[Account]]:
    counts, due = book.counts(), book.figures()
    in_erp: dict[Key, StoreDay] = {(each.store, each.business_date.isoformat(), each.currency): each for each in held}
    accounts: dict[tuple[str, str], list[Account]] = {}
    for key in sorted({*counts, *in_erp}):
        store, day, currency = key
        account = Account(currency, counts.get(key, {}), due.get(key, Figures()))
        if key in in_erp:
            account.held = figures_of(in_erp[key])
        accounts.setdefault((store, day), []).append(account)
    return accounts


def figures_of(day: StoreDay) -> Figures:
    """What the ERP holds, as figures."""
    money = (day.net, day.tax, day.gross)
    prints = (day.digest, day.personal, day.unremembered)
    return Figures(day.documents, day.lines, day.quantity, *money, day.tenders, *prints)


def _sums(figures: Figures) -> tuple[Any, ...]:
    tenders = {kind: amount for kind, amount in figures.tenders.items() if amount}
    return (figures.receipts, figures.lines, figures.quantity, figures.net, figures.tax, figures.gross, tenders)


def _state(day: Day, terms: Terms) -> State:
    if day.day == NOWHERE:
        return "differs" if day.differences else "balanced"
    if not terms.is_over(day.store, day.day):
        return "open"
    if day.differences:
        return "differs"
    if day.count("waiting") or not terms.reaches(day.day) or not all(account.agrees for account in day.accounts):
        return "closed"
    return "balanced"


def explain(book: Book, sink: Sink, day: Day, terms: Terms) -> list[Difference]:
    """On what a day differs, record by record."""
    agrees = all(account.agrees for account in day.accounts)
    if agrees and not day.count("vanished", "refused") and (day.store, day.day) not in terms.doubtful:
        return []
    found: list[Difference] = []
    held = {each.external_ref: each for each in _prints(sink, day)}
    facts: dict[str, Fact] = {}
    held_by_ref: dict[str, DocumentPrint | None] = {}
    for fact in book.due(day.store, day.day):
        document = held.pop(fact.ref, None) if fact.fate != "vanished" else None
        if fact.fate == "vanished":
            found.append(_of(fact, "vanished", fact.reason or "no dead letter"))
        elif fact.fate != "waiting":
            facts[fact.ref] = fact
            held_by_ref[fact.ref] = document
            found += _beside(fact, document, sink, book, day) if document is not None else _absent(fact, sink)
    found += _unsent(book, sink, list(held.values()), day, terms)
    _say_what_is_left(found, sink)
    return _with_changes(found, facts, held_by_ref, sink, day, terms)


def _prints(sink: Sink, day: Day) -> list[DocumentPrint]:
    return [] if day.day == NOWHERE else sink.prints(day.store, as_date(day.day))


def _beside(fact: Fact, document: DocumentPrint, sink: Sink, book: Book, day: Day) -> list[Difference]:
    """The receipt and the document of the same reference and day."""
    if fact.reason:
        return [_of(fact, "refused_today", fact.reason, document)]
    if _is_the_same(fact, document, book, day):
        if document.remembered:
            return []
        return [_of(fact, "orphaned", f"the ERP does not remember that it took {document.event_id}", document)]
    if document.revision < fact.revision:
        revisions = f"revision {document.revision} instead of {fact.revision}"
        return [_remembered(_of(fact, "older_revision", f"{revisions}: event {fact.event_id}", document), fact, sink)]
    other = document.content != fact.content and document.digest != fact.print
    if other or document.revision != fact.revision:
        how = "a dead letter, replayed with a patch" if fact.letter else f"from {document.event_id}"
        return [_of(fact, "other_content", how, document)]
    if document.currency != fact.currency:
        return [_of(fact, "altered", f"currency {document.currency} instead of {fact.currency}", document)]
    return [_of(fact, "altered", "", document)]


def _is_the_same(fact: Fact, document: DocumentPrint, book: Book, day: Day) -> bool:
    """Whether the document is that of the receipt, or of another event that said the same of it."""
    if document.currency != fact.currency or document.personal not in (None, fact.personal):
        return False
    if document.digest == fact.print:
        return True
    if any(twin.print == document.digest for twin in book.twins(fact)):
        day.account(fact.currency).accept(fact.print, document.digest)
        return True
    return False


def _with_changes(
    found: Sequence[Difference],
    facts: dict[str, Fact],
    prints: dict[str, DocumentPrint | None],
    sink: Sink,
    day: Day,
    terms: Terms,
    most: int = 500,
) -> list[Difference]:
    """The differences, with the fields in which altered documents differ. What turns out to be none is left out."""
    altered = {each.ref: each for each in found if each.kind == "altered" and not each.detail}
    refs = list(altered)
    dropped: set[str] = set()
    for start in range(0, len(refs), most):
        part = refs[start : start + most]
        documents = {document.external_ref: document for document in sink.read(part)}
        sent = terms.sent([facts[ref] for ref in part])
        for ref in part:
            said = prints[ref]
            assert said is not None  # it is altered
            document = documents.get(ref)
            if document is not None and ref in sent and is_as_read(document, said):
                changed = changes(sent[ref], document)
                if not changed and said.remembered:
                    dropped.add(ref)
                    day.account(facts[ref].currency).accept(facts[ref].print, said.digest)
            else:
                changed = changed_sums(facts[ref], document) if document is not None else []
                if altered[ref].held != facts[ref].gross:
                    changed.insert(0, "gross")
            altered[ref].detail = in_words(changed) or "in its parts, the gross is the same"
    return [each for each in found if each.ref not in dropped or each.kind != "altered"]


def _absent(fact: Fact, sink: Sink) -> list[Difference]:
    elsewhere = sink.read([fact.ref])
    for document in elsewhere:
        where = f"in the ERP on {document.business_date} in store {document.store}, in {document.currency}"
        if document.revision < fact.revision:
            revisions = f"revision {document.revision} instead of {fact.revision}; {where}: event {fact.event_id}"
            return [_remembered(_of(fact, "older_revision", revisions), fact, sink)]
        return [_of(fact, "moved", where)]
    if fact.reason:
        return [_of(fact, "vanished", fact.reason)]
    return [_remembered(_of(fact, "missing", f"event {fact.event_id}"), fact, sink)]


def _remembered(absent: Difference, fact: Fact, sink: Sink) -> Difference:
    """What the ERP remembers to have taken, it has to forget before it takes it again."""
    if isinstance(sink, Remembering) and (delivered := sink.deliveries([fact.event_id])):
        since = "deleted" if absent.kind == "missing" else "undone"
        absent.detail += f" was delivered at {delivered[-1].at:%Y-%m-%d %H:%M:%S} UTC, and {since} in the ERP since"
        if isinstance(sink, Forgetful):
            absent.repair += " --forget"
    return absent


def _say_what_is_left(found: Sequence[Difference], sink: Sink) -> None:
    """Adds to missing documents what is left of them: it would be in the way of the same document."""
    absent = {each.ref: each for each in found if each.kind in ("missing", "vanished")}
    if not absent or not isinstance(sink, Fragmentary):
        return
    for fragment in sink.fragments(list(absent)):
        each = absent[fragment.external_ref]
        if words := parts_in_words(fragment):
            each.detail += f"; {words} of it are left"
            if each.kind == "missing" and isinstance(sink, Forgetful) and "--forget" not in each.repair:
                each.repair += " --forget"


def _orphans(book: Book, sink: Sink, terms: Terms) -> list[Difference]:
    """What the ERP holds of no document, under references of which the tills sent nothing that it should hold.

    Where the topic has lost its beginning, deliveries of before may have had documents: somebody may have put them
    into an archive.
    """
    if not (terms.deep or _NO_STORE in terms.doubtful) or not terms.wants(*_NO_STORE):
        return []
    if not isinstance(sink, Fragmentary):
        return []
    found: list[Difference] = []
    for fragment in sink.fragments():
        if any(fact.fate in ("erp", "refused", "waiting", "vanished") for fact in book.about(fragment.external_ref)):
            continue  # its own day says that the document is missing
        words = [word for word in (parts_in_words(fragment),) if word]
        if fragment.deliveries and terms.whole and terms.reach is None:
            words.append(f"{fragment.deliveries} remembered as delivered")
        if words:
            detail = f"no document, but {', '.join(words)}"
            repair = _repair("orphaned", "", "", fragment.external_ref)
            found.append(Difference("orphaned", "", NOWHERE, "", fragment.external_ref, detail, repair=repair))
    return found


def _unsent(
    book: Book, sink: Sink, documents: Sequence[DocumentPrint], day: Day, terms: Terms, most: int = 500
) -> list[Difference]:
    """The documents for which nothing was due on this day."""
    found: list[Difference] = []
    strange: list[DocumentPrint] = []
    for document in documents:
        known = book.about(document.external_ref)
        due = next((fact for fact in known if fact.fate in ("erp", "refused", "waiting")), None)
        if due is not None and (due.fate == "waiting" or due.revision > document.revision):
            continue  # it will be replaced; or its own day says so
        if due is not None:
            found.append(_held(document, day, "moved", f"sent as of {due.day} in store {due.store}"))
        elif known:
            how = f"sent, and became a dead letter: {known[0].letter}"
            found.append(_held(document, day, "other_content", how))
        else:
            strange.append(document)
    for start in range(0, len(strange), most):
        part = strange[start : start + most]
        read = {document.external_ref: document for document in sink.read([each.external_ref for each in part])}
        for each in part:
            found += _strange(book, each, read.get(each.external_ref), day, terms)
    return found


def _strange(book: Book, document: DocumentPrint, read: ErpDocument | None, day: Day, terms: Terms) -> list[Difference]:
    """A document whose reference no till sent: a copy, if all that it says was sent under another."""
    original = original_of(book, document, read)
    if original is not None:
        return [_held(document, day, "doubled", f"a copy of {original.ref}")]
    if not terms.is_over(day.store, day.day):
        return []  # it may have been sent since the topic was read
    detail = f"event {document.event_id}"
    for other in book.saying(document.content):
        detail += f"; it has the content hash of {other.ref}, and says something else"
        break
    return [_held(document, day, "only_in_erp", detail)]


def _of(fact: Fact, kind: Kind, detail: str, document: DocumentPrint | None = None) -> Difference:
    place = f"{fact.partition}:{fact.offset}"
    held = document.gross if document is not None else None
    subject = fact.ref or place
    repair = _repair(kind, fact.store, fact.day, subject)
    sent = None if not fact.ref else fact.gross
    return Difference(kind, fact.store, fact.day, fact.currency, subject, detail, place, sent, held, repair)


def _held(document: DocumentPrint, day: Day, kind: Kind, detail: str) -> Difference:
    repair = _repair(kind, day.store, day.day, document.external_ref)
    return Difference(
        kind, day.store, day.day, document.currency, document.external_ref, detail, held=document.gross, repair=repair
    )


def _repair(kind: Kind, store: str, day: str, ref: str) -> str:
    where = f" --store {store} --day {day}" if store and day else ""
    if kind in ("missing", "older_revision", "vanished"):
        return f"tillstream reconcile repair{where}"
    if kind in ("altered", "other_content", "doubled", "orphaned"):
        return f"tillstream reconcile repair{where} --forget"
    return f"tillstream explain {ref}"  # a person has to say which side is right


def _registers(book: Book, *, whole: bool) -> Iterable[Difference]:
    """The registers whose own totals are not what they sent. A Z counts what was sold since the one before."""
    before: Close | None = None
    for close in book.closes():
        same = before is not None and _register(before) == _register(close)
        since = before.occurred if before is not None and same else -(2**62)
        before = close
        if not same and not whole:
            continue  # what the register sold before was not read
        sold, day = book.sold(close, since)
        if sold != close.gross:
            printed, sent = from_scaled(close.gross, AMOUNT_PLACES), from_scaled(sold, AMOUNT_PLACES)
            yield Difference(
                *("register", close.store, day or close.day, close.currency, close.event_id),
                f"register {close.register} printed {in_places(printed, close.currency)}",
                sent=sent,
                repair=f"tillstream dlq list --store {close.store}",
            )


def _register(close: Close) -> tuple[str, str, str, str]:
    return close.source, close.store, close.register, close.currency
