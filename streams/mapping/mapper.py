"""`Mapper`: turns checked receipts into ERP documents. Without a mapping file it is `IdentityMapper`."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

from schemas.document import ErpDocument
from schemas.mapping import RefundRule
from streams.batch import Arrival, QualityIssue, Rejection
from streams.checks import CheckedReceipt, CheckFailed, Repair, no_repair
from streams.mapping.documents import StoreDirectory, to_documents


class MappedReceipts(NamedTuple):
    """Documents, rejections, and the issues that the cleaning rules found in either."""

    documents: list[ErpDocument]
    rejections: list[Rejection]
    findings: list[QualityIssue]


class Mapper(Protocol):
    """One version of the rules by which receipts become documents. It never changes."""

    @property
    def label(self) -> str:
        """Name and version of the mapping; empty without one."""
        ...

    @property
    def stores(self) -> StoreDirectory:
        """The stores, as this version describes them."""
        ...

    @property
    def refunds(self) -> RefundRule | None:
        """The rule for refunds whose sale is missing, if there is one."""
        ...

    def repair(self, arrival: Arrival, fault: CheckFailed) -> CheckedReceipt | None:
        """Repair a receipt that failed the check, as `checks.Repair`."""
        ...

    def map(self, receipts: Sequence[CheckedReceipt], now: datetime) -> MappedReceipts:
        """Map each receipt to a document, or reject it."""
        ...

    def with_descriptions(self, document: ErpDocument) -> ErpDocument:
        """Return the document with the descriptions that the cleaning rules fill in."""
        ...

    def without_codes(self) -> "Mapper":
        """Return a mapper with the same stores and repairs that adds no codes and applies no other rules."""
        ...


class IdentityMapper:
    """A mapper without tables and rules: codes map to themselves, and only a store can be unknown."""

    label = ""
    refunds: RefundRule | None = None

    def __init__(self, stores: StoreDirectory, repair: Repair = no_repair) -> None:
        self.stores = stores
        self.repair = repair

    def map(self, receipts: Sequence[CheckedReceipt], now: datetime) -> MappedReceipts:
        """Map each receipt to a document; reject those of unknown stores."""
        return MappedReceipts(*to_documents(receipts, self.stores), [])

    def with_descriptions(self, document: ErpDocument) -> ErpDocument:
        """Return the document as it is."""
        return document

    def without_codes(self) -> "IdentityMapper":
        """Return this mapper, which adds no codes."""
        return self


def store_zone(mapper: Mapper, name: str) -> ZoneInfo | None:
    """Return the time zone of a store, or None when the store is unknown."""
    store = mapper.stores.find(name)
    return store.zone if store is not None else None
