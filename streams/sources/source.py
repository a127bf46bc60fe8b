"""`Source`: a compiled contract. It turns a record into events (JSON objects), or skips or refuses it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from lxml import etree
from pydantic import TypeAdapter, ValidationError

from schemas.contract import Contract
from schemas.dead_letter import Reason
from schemas.money import minor_digits
from schemas.sale import SaleLine
from streams.batch import Record
from streams.checks import CheckFailed, gross_of_lines
from streams.sources.contracts import ContractError, load_contract, locate_fault
from streams.sources.convert import ConversionFailed, DamagedCode, text_of
from streams.sources.formats import UnreadableRecord, reader
from streams.sources.paths import PathFailed
from streams.sources.plan import ContractPlanner, KindPlan, PartPlan, Values
from streams.sources.rules import EventBuilder, FieldGetter, RuleObserver, ZoneOf
from streams.sources.taxes import ChargedTaxes, UncertainRate, charged_taxes, settle_taxes

_LINES = TypeAdapter(tuple[SaleLine, ...])
#: Limits on the events in one record and the parts in one list of an event. Nothing larger is a receipt, and it would
#: hold up every record behind it.
MAX_EVENTS = 1_000
MAX_PARTS = 10_000


class SchemaReader(Protocol):
    """Reads records whose schemas are stored elsewhere, such as in a registry."""

    trouble: str | None

    async def prepare(self, records: Sequence[Record]) -> None:
        """Fetch the schemas of these records; wait for them as long as it takes."""
        ...

    def read(self, record: Record) -> Any:
        """Return a record's tree. Raises UnreadableRecord."""
        ...


class UnusableContract(Exception):
    """Paths or steps of the contract are wrong; the message has one line per fault."""


class RefusedRecord(Exception):
    """The record, or one of its events, does not follow the contract."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class SkippedPart(NamedTuple):
    """A part of the record that is not an event; `why` is the contract's text for it (`skip`)."""

    why: str


class Source:
    """A compiled contract. Raises UnusableContract if its paths or steps are wrong.

    `schemas` reads Avro and JSON Schema; without it such records must be given as JSON. `watch` is called with every
    value along the way.
    """

    is_canonical: Literal[False] = False

    def __init__(
        self,
        contract: Contract,
        zone_of: ZoneOf,
        schemas: SchemaReader | None = None,
        watch: RuleObserver | None = None,
    ) -> None:
        self.contract = contract
        self._schemas = schemas
        self._zone_of = zone_of
        self._tax_rates = [Decimal(rate) for rate in contract.tax_rates]
        self.read = schemas.read if schemas is not None else reader(contract)
        planner = ContractPlanner(contract, watch)
        self._variables = planner.variables
        self._parts = planner.parts_finder(contract.events, "events") if contract.events is not None else None
        self._values = planner.values(contract.values, "values")
        self._plans = [planner.plan(kind, number) for number, kind in enumerate(contract.kinds)]
        self._personal = [
            planner.parts_finder(path, f"personal.{number}") for number, path in enumerate(contract.personal)
        ]
        if planner.faults:
            raise UnusableContract("\n".join(dict.fromkeys(planner.faults)))

    @property
    def label(self) -> str:
        """Name and version of the contract."""
        return self.contract.label

    @property
    def trouble(self) -> str | None:
        """The dependency this source is waiting for, if any."""
        return self._schemas.trouble if self._schemas is not None else None

    def personal_values(self, tree: Any) -> Iterator[Any]:
        """Yield the values at the contract's `personal` paths in a record's tree."""
        for find in self._personal:
            with suppress(PathFailed):  # a path of another kind of record
                yield from find(tree)

    async def prepare(self, records: Sequence[Record]) -> None:
        """Fetch the schemas that these records need; wait while the registry is unavailable."""
        if self._schemas is not None:
            await self._schemas.prepare(records)

    def events(self, record: Record) -> Iterator[dict[str, Any] | SkippedPart | RefusedRecord]:
        """Yield the record's events as JSON objects, and its skipped and refused parts, in order.

        Raises RefusedRecord if the record can't be split into parts at all.
        """
        parts = self._parts_of(record)
        for part in parts:
            try:
                yield self._event(part, record, alone=len(parts) == 1)
            except RefusedRecord as fault:
                yield fault
            except ArithmeticError:  # a computation overflowed: no receipt has such numbers
                yield RefusedRecord(Reason.UNCONVERTIBLE_VALUE, "(a number): out_of_range")

    def _parts_of(self, record: Record) -> Sequence[Any]:
        try:
            tree = self.read(record)
        except UnreadableRecord as fault:
            raise RefusedRecord(fault.reason, fault.detail) from None
        if self._parts is None:
            parts = [tree]
        else:
            try:
                parts = self._parts(tree)
            except PathFailed as fault:
                raise RefusedRecord(Reason.UNCONVERTIBLE_VALUE, f"events: {fault}") from None
            if not parts:
                raise RefusedRecord(Reason.UNPLACED_RECORD, "events: none_found")
            if len(parts) > MAX_EVENTS:
                raise RefusedRecord(Reason.SCHEMA_MISMATCH, f"events: more_than_{MAX_EVENTS}")
        return parts

    def identities(self, record: Record, names: Sequence[str]) -> list[dict[str, str] | None]:
        """Return these fields of each event, leaving out fields that can't be read; None for parts that aren't events.

        Raises RefusedRecord if the record can't be split into parts at all.
        """
        parts = self._parts_of(record)
        return [self._identity(part, record, names, alone=len(parts) == 1) for part in parts]

    def _identity(self, part: Any, record: Record, names: Sequence[str], *, alone: bool) -> dict[str, str] | None:
        try:
            plan = self.find_kind(part, record)
            if plan is None or plan.kind.skip is not None:
                return None
            part = _with_facts(plan.facts, part)
        except RefusedRecord:
            return None
        fields = {"source": self.contract.source, "type": str(plan.kind.type)}
        builder = EventBuilder(record, part, self._zone_of)
        for name, get in plan.fields:
            if name in names and not (name == "event_id" and plan.id_of_record and not alone):
                with suppress(RefusedRecord, ArithmeticError):
                    value = _value(get, part, builder, name)
                    if value is not None:
                        fields[name] = str(value)
        return fields

    def _event(self, part: Any, record: Record, *, alone: bool) -> dict[str, Any] | SkippedPart:
        plan = self.find_kind(part, record)
        if plan is None:
            raise RefusedRecord(Reason.UNPLACED_RECORD, "kinds: none_fits")
        if plan.kind.skip is not None:
            return SkippedPart(plan.kind.skip)
        part = _with_facts(plan.facts, part)
        builder = EventBuilder(record, part, self._zone_of)
        event: dict[str, Any] = {"source": self.contract.source, "type": plan.kind.type}
        for name, get in plan.fields:
            value = _value(get, part, builder, name)
            if value is None or (name == "event_id" and plan.id_of_record and not alone):
                continue
            outer, _, inner = name.partition(".")
            if inner:
                event.setdefault(outer, {})[inner] = value
            else:
                event[name] = value
            if name == "store":
                builder.store = str(value)
            elif name == "currency":
                builder.currency = str(value)
        event["lines"] = list(self._build_parts(plan.lines, part, builder, "lines"))
        if builder.charged_taxes:
            self._settle_taxes(event, plan, part, builder)
        event["tenders"] = list(self._build_parts(plan.tenders, part, builder, "tenders"))
        if plan.total_of_lines:
            _derive_total(event)
        return event

    def _settle_taxes(self, event: dict[str, Any], plan: KindPlan, part: Any, builder: EventBuilder) -> None:
        needs_receipt_taxes = plan.shares_taxes or any(charged.rate is None for charged in builder.charged_taxes)
        receipt_taxes = list(self._build_parts(plan.taxes, part, builder, "taxes")) if needs_receipt_taxes else []
        total = event.get("totals", {}).get("tax")
        digits = minor_digits(builder.currency or "") or 0
        try:
            settle_taxes(event["lines"], builder.charged_taxes, receipt_taxes, total, digits, self._tax_rates)
        except UncertainRate as fault:
            raise RefusedRecord(Reason.UNCERTAIN_TAX_RATE, str(fault)) from None
        except ConversionFailed as fault:
            raise RefusedRecord(Reason.UNCONVERTIBLE_VALUE, f"taxes: {fault}") from None

    def find_kind(self, part: Any, record: Record) -> KindPlan | None:
        """Return the plan of the first kind whose conditions the part meets, if any; sets the contract's values."""
        self._find_values(self._values, part, "values")
        try:
            return next((plan for plan in self._plans if all(holds(part, record) for holds in plan.conditions)), None)
        except PathFailed as fault:
            raise RefusedRecord(Reason.UNCONVERTIBLE_VALUE, f"kinds: {fault}") from None

    def _find_values(self, values: Values, part: Any, location: str) -> None:
        for name, find in values:
            try:
                value = find(part)
            except PathFailed as fault:
                raise RefusedRecord(Reason.UNCONVERTIBLE_VALUE, f"{location}.{name}: {fault}") from None
            # XPath returns attributes as a list of texts; a variable holds only the first.
            self._variables[name] = value[0] if isinstance(value, list) and value and type(value[0]) is str else value

    def _build_parts(
        self, blocks: list[PartPlan], part: Any, builder: EventBuilder, location: str
    ) -> Iterator[dict[str, Any]]:
        index = 0
        for block in blocks:
            try:
                elements = block.find(part)
            except PathFailed as fault:
                raise RefusedRecord(Reason.UNCONVERTIBLE_VALUE, f"{location}: {fault}") from None
            if index + len(elements) > MAX_PARTS:
                raise RefusedRecord(Reason.SCHEMA_MISMATCH, f"{location}: more_than_{MAX_PARTS}")
            for element in elements:
                self._find_values(block.values, element, f"{location}.{index}")
                fields: dict[str, Any] = {}
                for name, get in block.fields:
                    try:
                        value = get(element, builder)
                    except (ConversionFailed, PathFailed) as fault:
                        raise RefusedRecord(_reason(fault), f"{location}.{index}.{name}: {fault}") from None
                    if value is not None:
                        fields[name] = value
                if block.discounts:
                    built = self._build_parts(block.discounts, element, builder, f"{location}.{index}.discounts")
                    discounts = [discount for discount in built if not _is_zero(discount.get("amount"))]
                    if discounts:
                        fields["discounts"] = discounts
                if block.taxes:
                    taxes = list(self._build_parts(block.taxes, element, builder, f"{location}.{index}.taxes"))
                    builder.charged_taxes.append(_charged_taxes(index, fields, taxes, f"{location}.{index}.tax_rate"))
                index += 1
                yield fields


def load_source(
    path: Path, zone_of: ZoneOf, schemas: SchemaReader | None = None, watch: RuleObserver | None = None
) -> Source:
    """Load a contract file as a source. Raises ContractError."""
    contract = load_contract(path)
    try:
        return Source(contract, zone_of, schemas, watch)
    except UnusableContract as error:
        raise ContractError("\n".join(locate_fault(path, fault) for fault in str(error).splitlines())) from None


def _derive_total(event: dict[str, Any]) -> None:
    """Set `totals.gross` to the total that the receipt check computes from the lines.

    Leave it out if the lines are invalid: validation reports them before it gets to the totals.
    """
    if "currency" not in event:
        return
    try:
        gross = gross_of_lines(_LINES.validate_python(event["lines"]), str(event["currency"]))
    except ValidationError:
        return
    except CheckFailed as fault:
        raise RefusedRecord(fault.reason, fault.detail) from None
    event.setdefault("totals", {})["gross"] = gross


def _value(get: FieldGetter, part: Any, builder: EventBuilder, name: str) -> Any:
    try:
        return get(part, builder)
    except (ConversionFailed, PathFailed) as fault:
        raise RefusedRecord(_reason(fault), f"{name}: {fault}") from None


def _reason(fault: Exception) -> Reason:
    return Reason.DAMAGED_CODE if isinstance(fault, DamagedCode) else Reason.UNCONVERTIBLE_VALUE


def _charged_taxes(index: int, line: dict[str, Any], taxes: list[dict[str, Any]], location: str) -> ChargedTaxes:
    try:
        return charged_taxes(index, line, taxes)
    except ConversionFailed as fault:
        raise RefusedRecord(Reason.UNCONVERTIBLE_VALUE, f"{location}: {fault}") from None


def _with_facts(facts: Values, part: Any) -> Any:
    if not facts:
        return part
    extended = part.copy() if type(part) is dict else None
    for name, find in facts:
        try:
            value = find(extended if extended is not None else part)
        except PathFailed as fault:
            raise RefusedRecord(Reason.UNCONVERTIBLE_VALUE, f"facts.{name}: {fault}") from None
        if extended is None:  # facts can only be added to an object
            raise RefusedRecord(Reason.UNCONVERTIBLE_VALUE, f"facts.{name}: not_an_object")
        extended[name] = value
    return extended


def _is_zero(amount: Any) -> bool:
    try:
        return not float(text_of(amount))
    except (ConversionFailed, ValueError):
        return False


def part_as_text(part: Any) -> str:
    """Format a part of a record for display, as JSON or XML."""
    if isinstance(part, etree._Element):
        return etree.tostring(part, encoding="unicode", pretty_print=True)
    return json.dumps(part, indent=2, ensure_ascii=False)
