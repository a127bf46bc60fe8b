"""`TableMapper`: maps receipts by one version of the master data, with the ERP's own codes."""

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
from streams.cleaning.outliers import Baselines, outlier_issues
from streams.cleaning.rules import REASONS, line_issues, receipt_issues, repaired
from streams.mapping.documents import UNKNOWN_STORE, kind_sign_unit, to_document, to_line
from streams.mapping.mapper import IdentityMapper, MappedReceipts
from streams.privacy.detection import by_value

R = TypeVar("R", bound=MasterRow)
#: The maximum number of codes, or of findings, in the detail of one receipt.
MAX_NAMED = 10
_GTIN = 14  # digits of the longest


class MissingCode(NamedTuple):
    """A code without a row."""

    reason: Reason
    field: str
    code: str

    def in_detail(self, location: str = "") -> str:
        """Return the text for a rejection's detail, without the code where that may be personal."""
        return f"{location}{self.field}: unmapped{'' if self._is_personal else f' {self.code!r}'}"

    @property
    def _is_personal(self) -> bool:
        if self.reason is Reason.UNMAPPED_CUSTOMER:
            return True
        if self.reason is Reason.UNMAPPED_ITEM and len(self.code) <= _GTIN:
            return False  # one barcode in ten has the check digit of a card number
        return by_value(self.code.strip()) in ("e-mail", "bank or card number")


class CodedLine(NamedTuple):
    """A line with its codes, the codes without a row, and the issues that the rules found in it."""

    line: DocumentLine
    missing: tuple[MissingCode, ...]
    issues: tuple[QualityIssue, ...]


class CodeLookup(Generic[R]):
    """The rows of a table by code; a store's own row takes precedence over the row for all stores.

    Without a table nothing is found, and nothing is missing.
    """

    def __init__(self, mapping: Mapping, name: str, rows: dict[str, list[Any]]) -> None:
        table = mapping.tables().get(name)
        self.exists = table is not None
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
        """Iterate over the codes."""
        return (key.code for key in self._rows)

    def find(self, store: str | None, code: str) -> R | None:
        """Return the row for the code in this store, or None."""
        own = self._rows.get(LookupKey(store, code)) if self.by_store else None
        return own if own is not None else self._rows.get(LookupKey(None, code))


class MappedStores:
    """The settings' stores, with the time zone, cut-off and hours that the table of stores states."""

    def __init__(self, table: CodeLookup[StoreRow], settings: Stores) -> None:
        self._table = table
        self._settings = settings
        self.find = lru_cache(LINES_KEPT)(self._find)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the stores that the settings or the table list."""
        yield from {*self._settings, *self._table}

    def _find(self, store: str) -> Store | None:
        row, settings = self._table.find(None, store), self._settings.find(store)
        if row is None or (row.timezone is None and row.cutoff is None and row.opening_hours is None):
            return settings
        if row.timezone is None and settings is None:
            return None
        default = settings or Store()
        return Store(
            timezone=row.timezone or default.timezone,
            cutoff=default.cutoff if row.cutoff is None else row.cutoff,
            opening_hours=row.opening_hours or default.opening_hours,
        )


class TableMapper:
    """A mapper by one version of the master data. As `streams.mapping.mapper.Mapper`."""

    def __init__(
        self,
        mapping: Mapping,
        rows: dict[str, list[MasterRow]],
        stores: Stores,
        baselines: Baselines | None = None,
    ) -> None:
        self.label = mapping.label
        self.rules = mapping.cleaning
        self.refunds = mapping.cleaning.refunds
        self._baselines = baselines
        self._items: CodeLookup[ItemRow] = CodeLookup(mapping, "items", rows)
        self._stores: CodeLookup[StoreRow] = CodeLookup(mapping, "stores", rows)
        self._tenders: CodeLookup[TenderRow] = CodeLookup(mapping, "tenders", rows)
        self._taxes: CodeLookup[TaxRow] = CodeLookup(mapping, "taxes", rows)
        self._customers: CodeLookup[CustomerRow] = CodeLookup(mapping, "customers", rows)
        self.stores = MappedStores(self._stores, stores)
        self._lines_by_store = self._items.by_store or self._taxes.by_store
        self._line = lru_cache(LINES_KEPT)(self._coded_line)  # by identity: receipts share their lines
        self._payment = lru_cache(LINES_KEPT)(self._coded_payment)

    @property
    def rows(self) -> dict[str, int]:
        """The number of rows of each table."""
        tables: dict[str, CodeLookup[Any]] = {
            "items": self._items,
            "stores": self._stores,
            "tenders": self._tenders,
            "taxes": self._taxes,
            "customers": self._customers,
        }
        return {name: len(table) for name, table in tables.items() if table.exists}

    def repair(self, arrival: Arrival, fault: CheckFailed) -> CheckedReceipt | None:
        """Repair a receipt that failed the check, where a cleaning rule allows it; else return None."""
        return repaired(self.rules, arrival, fault)

    def map(self, receipts: Sequence[CheckedReceipt], now: datetime) -> MappedReceipts:
        """Map each receipt to a document with its codes; reject it for a missing code or by a cleaning rule."""
        result = MappedReceipts([], [], [])
        for receipt in receipts:
            mapped = self._document(receipt, now, result.findings)
            if isinstance(mapped, Rejection):
                result.rejections.append(mapped)
            else:
                result.documents.append(mapped)
        return result

    def _document(
        self, receipt: CheckedReceipt, now: datetime, findings: list[QualityIssue]
    ) -> ErpDocument | Rejection:
        event = receipt.arrival.event
        _, sign, unit = kind_sign_unit(receipt)
        in_store = event.store if self._lines_by_store else None
        coded = [self._line(line, sign, unit, in_store) for line in receipt.lines]
        row = self._stores.find(None, event.store)
        missing = self._missing(receipt, row, coded)
        if missing:
            detail = joined([code.in_detail(location) for code, location in missing])
            return _rejection(receipt, missing[0][0].reason, detail)
        store = self.stores.find(event.store)
        if store is None:
            return _rejection(receipt, *UNKNOWN_STORE)
        issues = [*receipt.issues, *receipt_issues(self.rules, receipt, unit, row, now), *issues_of_lines(coded)]
        if self.rules.usual is not None and self._baselines is not None:
            issues += outlier_issues(self.rules.usual, self._baselines, receipt, unit)
        findings += issues
        rejection = _rejection_for(receipt, issues)
        if rejection is not None:
            return rejection
        document = to_document(receipt, store, [line.line for line in coded])
        self._code(document, row)
        document.review = joined([issue.detail for issue in issues if issue.policy == "flag"]) or None
        return document

    def without_codes(self) -> IdentityMapper:
        """Return a mapper with the same stores and repairs that adds no codes and applies no other rules."""
        return IdentityMapper(self.stores, self.repair)

    def with_descriptions(self, document: ErpDocument) -> ErpDocument:
        """Return the document with today's descriptions for lines that have none, if the rules say `fix`."""
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

    def _code(self, document: ErpDocument, row: StoreRow | None) -> None:
        document.mapping = self.label
        if row is not None:
            document.company, document.warehouse, document.cost_centre = row.company, row.warehouse, row.cost_centre
        elif self._stores.exists:
            document.warehouse = document.store
        if self._tenders.exists:
            for payment in document.payments:
                payment.payment_mode, payment.account = self._payment(document.store, payment.kind)
        if document.customer_id is not None and self._customers.exists:
            customer = self._customers.find(None, document.customer_id)
            document.customer_code = customer.customer_code if customer is not None else document.customer_id

    def _coded_payment(self, store: str, kind: str) -> tuple[str, str | None]:
        row = self._tenders.find(store, kind)
        return (row.payment_mode, row.account) if row is not None else (kind, None)

    def _missing(
        self, receipt: CheckedReceipt, row: StoreRow | None, coded: Sequence[CodedLine]
    ) -> list[tuple[MissingCode, str]]:
        """Return the codes without a row, each once, with the location of its first occurrence."""
        event = receipt.arrival.event
        found: dict[MissingCode, str] = {}
        if row is None and self._stores.reject:
            found[MissingCode(Reason.UNMAPPED_STORE, "store", event.store)] = ""
        for index, line in enumerate(coded):
            for missing in line.missing:
                found.setdefault(missing, f"lines.{index}.")
        if self._tenders.reject:
            for index, tender in enumerate(event.tenders):
                if self._tenders.find(event.store, tender["kind"]) is None:
                    found.setdefault(MissingCode(Reason.UNMAPPED_TENDER, "kind", tender["kind"]), f"tenders.{index}.")
        customer = event.customer.get("id") if event.customer is not None else None
        if customer is not None and self._customers.reject and self._customers.find(None, customer) is None:
            found[MissingCode(Reason.UNMAPPED_CUSTOMER, "customer.id", customer)] = ""
        return list(found.items())

    def _coded_line(self, line: CheckedLine, sign: int, unit: Decimal, store: str | None) -> CodedLine:
        sku, plain = line.sale_line["sku"], to_line(line, sign, unit)
        item = self._items.find(store, sku)
        missing: list[MissingCode] = []
        codes: dict[str, Any] = {}
        if item is not None:
            codes = {"item_code": item.item_code or sku, "item_unit": item.unit, "cost": item.cost}
            if self.rules.description == "fix" and item.description and not plain.description:
                codes["description"] = item.description
        elif self._items.reject:
            missing.append(MissingCode(Reason.UNMAPPED_ITEM, "sku", sku))
        elif self._items.exists:
            codes["item_code"] = sku
        if self._taxes.exists:
            tax = self._tax(store, item.tax_category if item is not None else None, line.tax_rate)
            if tax is None and self._taxes.reject:
                missing.append(MissingCode(Reason.UNMAPPED_TAX, "tax_rate", _tax_code_text(item, line.tax_rate)))
            codes["tax_code"] = tax.tax_code if tax is not None else f"{line.tax_rate.normalize():f}"
        issues = tuple(line_issues(self.rules, line, unit, item))
        return CodedLine(replace(plain, **codes), tuple(missing), issues)

    def _tax(self, store: str | None, category: str | None, rate: Decimal) -> TaxRow | None:
        """Return the first row found by category and rate, then by category, then by rate."""
        keys = [tax_key(category, rate), tax_key(category, None)] if category is not None else []
        for key in (*keys, tax_key(None, rate)):
            row = self._taxes.find(store, key)
            if row is not None:
                return row
        return None


def issues_of_lines(lines: Sequence[CodedLine]) -> list[QualityIssue]:
    """Return the lines' issues, located in the receipt."""
    return [
        issue._replace(detail=f"lines.{index}.{issue.detail}")
        for index, line in enumerate(lines)
        for issue in line.issues
    ]


def joined(details: Sequence[str]) -> str:
    """Return the first `MAX_NAMED` details as one text, and the number of the others."""
    more = [f"and {len(details) - MAX_NAMED} more"] if len(details) > MAX_NAMED else []
    return "; ".join([*details[:MAX_NAMED], *more])


def _rejection_for(receipt: CheckedReceipt, issues: Sequence[QualityIssue]) -> Rejection | None:
    """Return the rejection, if an issue stops the receipt; `reject` takes precedence over `hold`."""
    for index, policy in enumerate(("reject", "hold")):
        stopping = [issue for issue in issues if issue.policy == policy]
        if stopping:
            reason = REASONS[stopping[0].rule][index]
            return _rejection(receipt, reason, joined([issue.detail for issue in stopping]))
    return None


def _tax_code_text(item: ItemRow | None, rate: Decimal) -> str:
    category = item.tax_category if item is not None else None
    return f"{rate.normalize():f}" if category is None else f"{rate.normalize():f} {category}"


def _rejection(receipt: CheckedReceipt, reason: Reason, detail: str) -> Rejection:
    arrival = receipt.arrival
    return Rejection(arrival.record, reason, detail, "map", arrival.event)
