"""`Mapper`: one version of the master data, and the receipts that become documents with the ERP's own codes by it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

from schemas.dead_letter import Reason
from schemas.document import DocumentLine, ErpDocument
from schemas.mapping import CustomerRow, ItemRow, LookupKey, Mapping, MasterRow, StoreRow, TaxRow, TenderRow, tax_key
from schemas.store import Store, Stores
from streams.batch import Arrival, QualityIssue, Rejection
from streams.checks import LINES_KEPT, CheckedLine, CheckedReceipt, CheckFailed
from streams.cleaning.outliers import Baselines, unusual
from streams.cleaning.rules import REASONS, line_dirt, receipt_dirt, repaired
from streams.mapping.documents import UNKNOWN_STORE, kind_sign_unit, to_document, to_line
from streams.privacy.detection import by_value

R = TypeVar("R", bound=MasterRow)
#: So many codes, or findings, are named for one receipt.
MOST_NAMED = 10
_GTIN = 14  # digits of the longest


class MissingCode(NamedTuple):
    """A code without a row."""

    reason: Reason
    field: str
    code: str

    def told(self, place: str = "") -> str:
        """As it stands in a detail, which may not be personal."""
        return f"{place}{self.field}: unmapped{'' if self._is_personal else f' {self.code!r}'}"

    @property
    def _is_personal(self) -> bool:
        if self.reason is Reason.UNMAPPED_CUSTOMER:
            return True
        if self.reason is Reason.UNMAPPED_ITEM and len(self.code) <= _GTIN:
            return False  # one barcode in ten could be a card number by its last digit
        return by_value(self.code.strip()) in ("e-mail", "bank or card number")


class CodedLine(NamedTuple):
    """A line with its codes, those it has none for, and what the rules found in it."""

    line: DocumentLine
    missing: tuple[MissingCode, ...]
    dirt: tuple[QualityIssue, ...]


class CodeLookup(Generic[R]):
    """The rows of a table by code; a store's own row stands before the one of all stores.

    Without a table nothing is found, and nothing is missing.
    """

    def __init__(self, mapping: Mapping, name: str, rows: dict[str, list[Any]]) -> None:
        table = mapping.tables().get(name)
        self.there = table is not None
        self.reject = table is not None and table.unmapped == "reject"
        self._rows: dict[LookupKey, R] = {row.key: row for row in rows.get(name, ())}
        self.by_store = any(key.store is not None for key in self._rows)
        for key, row in self._rows.items():
            general = self._rows.get(LookupKey(None, key.code)) if key.store is not None else None
            if general is not None:
                self._rows[key] = general.model_copy(update=row.model_dump(exclude_none=True))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        """The codes."""
        return (key.code for key in self._rows)

    def find(self, store: str | None, code: str) -> R | None:
        """The row for the code, in that store."""
        own = self._rows.get(LookupKey(store, code)) if self.by_store else None
        return own if own is not None else self._rows.get(LookupKey(None, code))


class Mapper:
    """One version of the master data, which never changes. What the cleaning rules find is counted in `found`."""

    def __init__(
        self,
        mapping: Mapping,
        rows: dict[str, list[MasterRow]],
        found: Counter[tuple[str, str]],
        habits: Baselines | None = None,
    ) -> None:
        self.label = mapping.label
        self.rules = mapping.cleaning
        self._habits = habits
        self.found = found
        self._items: CodeLookup[ItemRow] = CodeLookup(mapping, "items", rows)
        self._stores: CodeLookup[StoreRow] = CodeLookup(mapping, "stores", rows)
        self._tenders: CodeLookup[TenderRow] = CodeLookup(mapping, "tenders", rows)
        self._taxes: CodeLookup[TaxRow] = CodeLookup(mapping, "taxes", rows)
        self._customers: CodeLookup[CustomerRow] = CodeLookup(mapping, "customers", rows)
        self._lines_by_store = self._items.by_store or self._taxes.by_store
        self._line = lru_cache(LINES_KEPT)(self._coded_line)  # by identity: receipts share their lines
        self._payment = lru_cache(LINES_KEPT)(self._coded_payment)

    @property
    def rows(self) -> dict[str, int]:
        """How many rows each table has."""
        tables: dict[str, CodeLookup[Any]] = {
            "items": self._items,
            "stores": self._stores,
            "tenders": self._tenders,
            "taxes": self._taxes,
            "customers": self._customers,
        }
        return {name: len(table) for name, table in tables.items() if table.there}

    def store(self, name: str, stores: Stores) -> Store | None:
        """The store's time zone, cut-off and hours: the table's, where it states them, else the settings'."""
        row, settings = self._stores.find(None, name), stores.find(name)
        if row is None or (row.timezone is None and row.cutoff is None and row.opening_hours is None):
            return settings
        if row.timezone is None and settings is None:
            return None
        plain = settings or Store()
        return Store(
            timezone=row.timezone or plain.timezone,
            cutoff=plain.cutoff if row.cutoff is None else row.cutoff,
            opening_hours=row.opening_hours or plain.opening_hours,
        )

    def store_names(self) -> Iterator[str]:
        """The stores that the table has."""
        return iter(self._stores)

    def repair(self, arrival: Arrival, fault: CheckFailed) -> CheckedReceipt | None:
        """As `checks.Repair`."""
        return repaired(self.rules, arrival, fault)

    def document(self, receipt: CheckedReceipt, stores: Stores, now: datetime) -> ErpDocument | Rejection:
        """The document with its codes; or why there is none: codes without a row, or dirt that is rejected or held."""
        event = receipt.arrival.event
        _, sign, unit = kind_sign_unit(receipt)
        in_store = event.store if self._lines_by_store else None
        coded = [self._line(line, sign, unit, in_store) for line in receipt.lines]
        row = self._stores.find(None, event.store)
        missing = self._missing(receipt, row, coded)
        if missing:
            words = in_words([one.told(place) for one, place in missing])
            return _rejection(receipt, missing[0][0].reason, words)
        store = self._known(event.store, stores)
        if store is None:
            return _rejection(receipt, *UNKNOWN_STORE)
        dirt = [*receipt.dirt, *receipt_dirt(self.rules, receipt, unit, row, now), *dirt_of(coded)]
        if self.rules.usual is not None and self._habits is not None:
            dirt += unusual(self.rules.usual, self._habits, receipt, unit)
        rejected = self._judged(receipt, dirt)
        if rejected is not None:
            return rejected
        document = to_document(receipt, store, [line.line for line in coded])
        self._code(document, row)
        document.review = in_words([one.what for one in dirt if one.policy == "flag"]) or None
        return document

    def described(self, document: ErpDocument) -> ErpDocument:
        """Return the document with descriptions for lines that have none, where the rules say so, as of today."""
        if self.rules.description != "fix" or all(line.description for line in document.lines):
            return document
        in_store = document.store if self._lines_by_store else None
        lines = [self._described_line(line, in_store) for line in document.lines]
        return replace(document, lines=lines)

    def _described_line(self, line: DocumentLine, store: str | None) -> DocumentLine:
        item = self._items.find(store, line.sku)
        if line.description or item is None or not item.description:
            return line
        return replace(line, description=item.description)

    def _known(self, name: str, stores: Stores) -> Store | None:
        return self.store(name, stores) if self._stores.there else stores.find(name)

    def _code(self, document: ErpDocument, row: StoreRow | None) -> None:
        document.mapping = self.label
        if row is not None:
            document.company, document.warehouse, document.cost_centre = row.company, row.warehouse, row.cost_centre
        elif self._stores.there:
            document.warehouse = document.store
        if self._tenders.there:
            for payment in document.payments:
                payment.payment_mode, payment.account = self._payment(document.store, payment.kind)
        if document.customer_id is not None and self._customers.there:
            customer = self._customers.find(None, document.customer_id)
            document.customer_code = customer.customer_code if customer is not None else document.customer_id

    def _coded_payment(self, store: str, kind: str) -> tuple[str, str | None]:
        row = self._tenders.find(store, kind)
        return (row.payment_mode, row.account) if row is not None else (kind, None)

    def _missing(
        self, receipt: CheckedReceipt, row: StoreRow | None, coded: Sequence[CodedLine]
    ) -> list[tuple[MissingCode, str]]:
        """The codes without a row, each once, with the place where it stands first."""
        event = receipt.arrival.event
        found: dict[MissingCode, str] = {}
        if row is None and self._stores.reject:
            found[MissingCode(Reason.UNMAPPED_STORE, "store", event.store)] = ""
        for place, line in enumerate(coded):
            for missing in line.missing:
                found.setdefault(missing, f"lines.{place}.")
        if self._tenders.reject:
            for place, tender in enumerate(event.tenders):
                if self._tenders.find(event.store, tender["kind"]) is None:
                    found.setdefault(MissingCode(Reason.UNMAPPED_TENDER, "kind", tender["kind"]), f"tenders.{place}.")
        customer = event.customer.get("id") if event.customer is not None else None
        if customer is not None and self._customers.reject and self._customers.find(None, customer) is None:
            found[MissingCode(Reason.UNMAPPED_CUSTOMER, "customer.id", customer)] = ""
        return list(found.items())

    def _coded_line(self, line: CheckedLine, sign: int, unit: Decimal, store: str | None) -> CodedLine:
        said, plain = line.said, to_line(line, sign, unit)
        item = self._items.find(store, said["sku"])
        missing: list[MissingCode] = []
        codes: dict[str, Any] = {}
        if item is not None:
            codes = {"item_code": item.item_code or said["sku"], "item_unit": item.unit, "cost": item.cost}
            if self.rules.description == "fix" and item.description and not plain.description:
                codes["description"] = item.description
        elif self._items.reject:
            missing.append(MissingCode(Reason.UNMAPPED_ITEM, "sku", said["sku"]))
        elif self._items.there:
            codes["item_code"] = said["sku"]
        if self._taxes.there:
            tax = self._tax(store, item.tax_category if item is not None else None, line.tax_rate)
            if tax is None and self._taxes.reject:
                missing.append(MissingCode(Reason.UNMAPPED_TAX, "tax_rate", _tax_in_words(item, line.tax_rate)))
            codes["tax_code"] = tax.tax_code if tax is not None else f"{line.tax_rate.normalize():f}"
        dirt = tuple(line_dirt(self.rules, line, unit, item))
        return CodedLine(replace(plain, **codes), tuple(missing), dirt)

    def _tax(self, store: str | None, category: str | None, rate: Decimal) -> TaxRow | None:
        """By category and rate, by category, by rate: the first that there is."""
        keys = [tax_key(category, rate), tax_key(category, None)] if category is not None else []
        for key in (*keys, tax_key(None, rate)):
            row = self._taxes.find(store, key)
            if row is not None:
                return row
        return None

    def _judged(self, receipt: CheckedReceipt, dirt: Sequence[QualityIssue]) -> Rejection | None:
        """Counts the dirt; the rejection, if some of it does not let the receipt pass: to be mended before held."""
        for one in dirt:
            self.found[one.rule, one.policy] += 1
        for place, policy in enumerate(("reject", "hold")):
            stopping = [one for one in dirt if one.policy == policy]
            if stopping:
                reason = REASONS[stopping[0].rule][place]
                return _rejection(receipt, reason, in_words([one.what for one in stopping]))
        return None


def dirt_of(coded: Sequence[CodedLine]) -> list[QualityIssue]:
    """The lines' dirt, with their places."""
    return [one._replace(what=f"lines.{place}.{one.what}") for place, line in enumerate(coded) for one in line.dirt]


def in_words(findings: Sequence[str]) -> str:
    """The findings as one text."""
    more = [f"and {len(findings) - MOST_NAMED} more"] if len(findings) > MOST_NAMED else []
    return "; ".join([*findings[:MOST_NAMED], *more])


def _tax_in_words(item: ItemRow | None, rate: Decimal) -> str:
    category = item.tax_category if item is not None else None
    return f"{rate.normalize():f}" if category is None else f"{rate.normalize():f} {category}"


def _rejection(receipt: CheckedReceipt, reason: Reason, detail: str) -> Rejection:
    arrival = receipt.arrival
    return Rejection(arrival.record, reason, detail, "map", arrival.event)
