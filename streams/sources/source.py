"""`Source`: a contract made ready to run. A record becomes events as JSON has them, or is skipped or refused."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from lxml import etree
from pydantic import TypeAdapter, ValidationError

from schemas.contract import AnyRule, Contract, Discounts, Kind, Lines, Rule, Taxes, Tenders, When
from schemas.deadletter import Reason
from schemas.money import minor_digits
from schemas.sale import Line
from streams.batch import Record
from streams.checks import Unsound, gross_of_lines
from streams.sources.contracts import ContractError, load, located
from streams.sources.convert import Convert, StepError, Unconvertible, converter, text_of
from streams.sources.formats import Unreadable, reader
from streams.sources.jmes import Find
from streams.sources.paths import NotFound, PathError, json_path, xml_nodes, xml_path
from streams.sources.taxes import rate_of

#: The time zone of a store, or None where it is unknown.
ZoneOf = Callable[[str], ZoneInfo | None]


class Schemas(Protocol):
    """Reads records by schemas that stand elsewhere."""

    trouble: str | None

    async def prepare(self, records: Sequence[Record]) -> None:
        """Fetches the schemas of these records; waits for them as long as it takes."""
        ...

    def read(self, record: Record) -> Any:
        """A record's tree. Raises Unreadable."""
        ...


class Unusable(Exception):
    """The contract's paths or steps are wrong; the message has a line for each."""


class Refused(Exception):
    """The record, or one of its events, is not as the contract says."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Skipped(NamedTuple):
    """A part of the record that is no event; `why` is the contract's word for it."""

    why: str


class Making:
    """The event in the making, as its steps see it."""

    __slots__ = ("_zone_of", "currency", "memo", "record", "store", "tree")

    def __init__(self, record: Record, tree: Any, zone_of: ZoneOf) -> None:
        self.record = record
        self.tree = tree
        self.memo: dict[Any, Any] = {}
        self.currency: str | None = None
        self.store: str | None = None
        self._zone_of = zone_of

    @property
    def zone(self) -> ZoneInfo | None:
        """The store's time zone, if both are known."""
        return self._zone_of(self.store) if self.store is not None else None


_LINES = TypeAdapter(tuple[Line, ...])
#: Told of each rule's value as it is found and after each step: (place in the contract, `found` or the step, value).
Watch = Callable[[str, str, Any], None]
#: From a part of the record to a field's value; None: absent.
Get = Callable[[Any, Making], Any]
Fields = list[tuple[str, Get]]


class Blocks(NamedTuple):
    """How one list of parts is made: what finds them, their fields, and for lines their discounts and taxes."""

    find: Callable[[Any], list[Any]]
    values: list[tuple[str, Find]]
    fields: Fields
    discounts: "list[Blocks]"
    taxes: "list[Blocks]"


class Plan(NamedTuple):
    """How records of one kind become events. `total_of_lines`: their gross total is derived."""

    kind: Kind
    holds: list[Callable[[Any, Record], bool]]
    facts: list[tuple[str, Find]]
    fields: Fields
    lines: list[Blocks]
    tenders: list[Blocks]
    total_of_lines: bool = False


class Source:
    """A contract, ready. Raises Unusable when it can't be.

    `schemas` reads Avro and JSON Schema; without it such records are given as JSON. `watch` is told of every value on
    the way.
    """

    def __init__(
        self, contract: Contract, zone_of: ZoneOf, schemas: Schemas | None = None, watch: Watch | None = None
    ) -> None:
        self.contract = contract
        self._schemas = schemas
        self._watch = watch
        self._zone_of = zone_of
        self._faults: list[str] = []
        self._xml = contract.format == "xml"
        namespaces = contract.xml.namespaces
        self._namespaces = None if isinstance(namespaces, str) else namespaces
        self._variables: dict[str, Any] = {}  # of XPath, for the part that is being made
        self._names: dict[str, str] = {}
        for name, piece in contract.names.items():
            self._names[name] = self._whole(piece)
        self.read = schemas.read if schemas is not None else reader(contract)
        self._parts = self._each(contract.events, "events") if contract.events is not None else None
        self._values = self._all_values(contract.values, "values")
        self._plans = [self._plan(kind, number) for number, kind in enumerate(contract.kinds)]
        if self._faults:
            raise Unusable("\n".join(dict.fromkeys(self._faults)))

    @property
    def trouble(self) -> str | None:
        """What of the world it waits for, while it does."""
        return self._schemas.trouble if self._schemas is not None else None

    async def prepare(self, records: Sequence[Record]) -> None:
        """Fetches what reading these records takes; a world that is away is waited out."""
        if self._schemas is not None:
            await self._schemas.prepare(records)

    def events(self, record: Record) -> Iterator[dict[str, Any] | Skipped | Refused]:
        """What the record's value holds, in order: events as JSON objects, and what is none.

        Raises Refused where nothing can be told about its parts.
        """
        try:
            tree = self.read(record)
        except Unreadable as fault:
            raise Refused(fault.reason, fault.detail) from None
        if self._parts is None:
            parts = [tree]
        else:
            try:
                parts = self._parts(tree)
            except NotFound as fault:
                raise Refused(Reason.UNCONVERTIBLE_VALUE, f"events: {fault}") from None
            if not parts:
                raise Refused(Reason.UNPLACED_RECORD, "events: none_found")
        for part in parts:
            try:
                yield self._event(part, record)
            except Refused as fault:
                yield fault

    def _event(self, part: Any, record: Record) -> dict[str, Any] | Skipped:
        plan = self.place(part, record)
        if plan is None:
            raise Refused(Reason.UNPLACED_RECORD, "kinds: none_fits")
        if plan.kind.skip is not None:
            return Skipped(plan.kind.skip)
        part = _with_facts(plan.facts, part)
        making = Making(record, part, self._zone_of)
        event: dict[str, Any] = {"source": self.contract.source, "type": plan.kind.type}
        for name, get in plan.fields:
            value = _value(get, part, making, name)
            if value is None:
                continue
            outer, _, inner = name.partition(".")
            if inner:
                event.setdefault(outer, {})[inner] = value
            else:
                event[name] = value
            if name == "store":
                making.store = str(value)
            elif name == "currency":
                making.currency = str(value)
        event["lines"] = list(self._made(plan.lines, part, making, "lines"))
        event["tenders"] = list(self._made(plan.tenders, part, making, "tenders"))
        if plan.total_of_lines:
            _derive_total(event)
        return event

    def place(self, part: Any, record: Record) -> Plan | None:
        """The plan of the first kind that the part is of; the part's values are found."""
        self._find_values(self._values, part, "values")
        try:
            return next((plan for plan in self._plans if all(holds(part, record) for holds in plan.holds)), None)
        except NotFound as fault:
            raise Refused(Reason.UNCONVERTIBLE_VALUE, f"kinds: {fault}") from None

    def _plan(self, kind: Kind, number: int) -> Plan:
        here = f"kinds.{number}"
        contract = self.contract
        holds = [self._condition(when, f"{here}.when.{place}") for place, when in enumerate(kind.when)]
        if kind.skip is not None:
            return Plan(kind, holds, [], [], [], [])
        # Store and currency first: the steps of other fields ask for them.
        rules = sorted((contract.fields | kind.fields).items(), key=lambda item: item[0] not in ("store", "currency"))
        places = {name: here if name in kind.fields else "" for name, _ in rules}
        found = [(name, rule) for name, rule in rules if rule.derive is None]
        fields = [(name, self._getter(rule, _path(places[name], "fields", name))) for name, rule in found]
        lines = contract.lines if kind.lines is None else kind.lines
        tenders = contract.tenders if kind.tenders is None else kind.tenders
        return Plan(
            kind,
            holds,
            [*self._facts(contract.facts, "facts"), *self._facts(kind.facts, f"{here}.facts")],
            fields,
            self._all_blocks(lines, "lines" if kind.lines is None else f"{here}.lines"),
            self._all_blocks(tenders, "tenders" if kind.tenders is None else f"{here}.tenders"),
            total_of_lines=len(found) < len(rules),
        )

    def _facts(self, facts: dict[str, str], here: str) -> list[tuple[str, Find]]:
        return [(name, self._find(path, f"{here}.{name}")) for name, path in facts.items()]

    def _all_blocks(self, blocks: Sequence[Lines | Tenders | Discounts | Taxes], here: str) -> list[Blocks]:
        made = []
        for number, block in enumerate(blocks):
            place = f"{here}.{number}"
            discounts, taxes = (block.discounts, block.taxes) if isinstance(block, Lines) else ((), ())
            made.append(
                Blocks(
                    self._each(block.each, f"{place}.each"),
                    self._all_values(block.values if isinstance(block, Lines) else {}, f"{place}.values"),
                    self._fields(block.fields, place),
                    self._all_blocks(discounts, f"{place}.discounts"),
                    self._all_blocks(taxes, f"{place}.taxes"),
                )
            )
        return made

    def _all_values(self, paths: dict[str, str], here: str) -> list[tuple[str, Find]]:
        values = []
        for name, path in paths.items():
            values.append((name, self._nodes(path, f"{here}.{name}")))
            self._variables[name] = []  # so that the paths that follow may use it
        return values

    def _find_values(self, values: list[tuple[str, Find]], part: Any, here: str) -> None:
        for name, find in values:
            try:
                found = find(part)
            except NotFound as fault:
                raise Refused(Reason.UNCONVERTIBLE_VALUE, f"{here}.{name}: {fault}") from None
            # Attributes come as texts, of which a variable can hold one.
            self._variables[name] = found[0] if isinstance(found, list) and found and type(found[0]) is str else found

    def _fields(self, rules: dict[str, AnyRule], here: str) -> Fields:
        return [(name, self._getter(rule, _path(here, "fields", name))) for name, rule in rules.items()]

    def _getter(self, rule: Rule, here: str) -> Get:
        converts: list[Convert] = []
        for number, step in enumerate(rule.steps):
            try:
                converts.append(converter(step))
            except StepError as fault:
                self._faults.append(f"{here}.as.{number}: {fault}")
        if rule.value is not None:
            found: Get = partial(_constant, rule.value)
        elif rule.header is not None:
            found = partial(_headers, (rule.header,) if isinstance(rule.header, str) else rule.header)
        elif rule.key:
            found = _key
        else:
            find = self._find(rule.path or "", f"{here}.path")
            found = _at(find) if rule.of == "part" else partial(_of_record, find)
        if self._watch is not None:
            found = _watched(found, self._watch, here, "found")
            converts = [
                _watched(convert, self._watch, here, step.word)
                for convert, step in zip(converts, rule.steps, strict=False)
            ]
        get = _rule(found, rule.default, converts)
        return get if self._watch is None else _watched(get, self._watch, here, "result")

    def _condition(self, when: When, here: str) -> Callable[[Any, Record], bool]:
        holds = self._holds(when, here)
        return holds if self._watch is None else _watched(holds, self._watch, here, "holds")

    def _holds(self, when: When, here: str) -> Callable[[Any, Record], bool]:
        if when.header is not None:
            found: Callable[[Any, Record], Any] = partial(_header_of, when.header)
        else:
            find = self._find(when.path or "", f"{here}.path")
            found = lambda part, _: find(part)  # noqa: E731 (the same shape as the other branch)
        if self._watch is not None:
            found = _watched(found, self._watch, here, "found")
        if when.one_of is None:
            return lambda part, record: _is_something(found(part, record))
        wanted = frozenset((type(value) is bool, str(value)) for value in when.one_of)
        return lambda part, record: (type(value := found(part, record)) is bool, str(value)) in wanted

    def _find(self, path: str, here: str) -> Find:
        try:
            whole = self._whole(path)
            return xml_path(whole, self._namespaces, self._variables) if self._xml else json_path(whole)
        except PathError as fault:
            self._faults.append(f"{here}: {fault}")
            return lambda _: None

    def _nodes(self, path: str, here: str) -> Find:
        try:
            whole = self._whole(path)
            return xml_nodes(whole, self._namespaces, self._variables) if self._xml else json_path(whole)
        except PathError as fault:
            self._faults.append(f"{here}: {fault}")
            return lambda _: []

    def _whole(self, path: str) -> str:
        """The path with the contract's names put in."""
        return re.sub(
            r"\$([a-z_]+)", lambda name: f"({self._names[name[1]]})" if name[1] in self._names else name[0], path
        )

    def _each(self, path: str, here: str) -> Callable[[Any], list[Any]]:
        find = self._nodes(path, here)
        return lambda node: _as_list(find(node))

    def _made(self, blocks: list[Blocks], part: Any, making: Making, here: str) -> Iterator[dict[str, Any]]:
        place = 0
        for block in blocks:
            try:
                found = block.find(part)
            except NotFound as fault:
                raise Refused(Reason.UNCONVERTIBLE_VALUE, f"{here}: {fault}") from None
            for inner in found:
                self._find_values(block.values, inner, f"{here}.{place}")
                made: dict[str, Any] = {}
                for name, get in block.fields:
                    try:
                        value = get(inner, making)
                    except (Unconvertible, NotFound) as fault:
                        raise Refused(Reason.UNCONVERTIBLE_VALUE, f"{here}.{place}.{name}: {fault}") from None
                    if value is not None:
                        made[name] = value
                if block.discounts:
                    listed = self._made(block.discounts, inner, making, f"{here}.{place}.discounts")
                    discounts = [discount for discount in listed if not _is_zero(discount.get("amount"))]
                    if discounts:
                        made["discounts"] = discounts
                if block.taxes:
                    taxes = list(self._made(block.taxes, inner, making, f"{here}.{place}.taxes"))
                    made["tax_rate"] = _tax_rate(made, taxes, making, f"{here}.{place}.tax_rate")
                place += 1
                yield made


def ready(path: Path, zone_of: ZoneOf, schemas: Schemas | None = None, watch: Watch | None = None) -> Source:
    """The source of a contract file. Raises ContractError."""
    contract = load(path)
    try:
        return Source(contract, zone_of, schemas, watch)
    except Unusable as error:
        raise ContractError("\n".join(located(path, fault) for fault in str(error).splitlines())) from None


def _path(*steps: str) -> str:
    return ".".join(filter(None, steps))


def _derive_total(event: dict[str, Any]) -> None:
    """Sets `totals.gross` to what the check of receipts computes from the lines.

    Lines that are no lines leave it out: validation names them before it comes to the totals.
    """
    if "currency" not in event:
        return
    try:
        gross = gross_of_lines(_LINES.validate_python(event["lines"]), str(event["currency"]))
    except ValidationError:
        return
    except Unsound as fault:
        raise Refused(fault.reason, fault.detail) from None
    event.setdefault("totals", {})["gross"] = gross


def _value(get: Get, part: Any, making: Making, name: str) -> Any:
    try:
        return get(part, making)
    except (Unconvertible, NotFound) as fault:
        raise Refused(Reason.UNCONVERTIBLE_VALUE, f"{name}: {fault}") from None


def _tax_rate(line: dict[str, Any], taxes: list[dict[str, Any]], making: Making, here: str) -> str:
    try:
        return rate_of(line, taxes, minor_digits(making.currency or "") or 0)
    except Unconvertible as fault:
        raise Refused(Reason.UNCONVERTIBLE_VALUE, f"{here}: {fault}") from None


def _with_facts(facts: list[tuple[str, Find]], part: Any) -> Any:
    for name, find in facts:
        try:
            part = part | {name: find(part)}
        except NotFound as fault:
            raise Refused(Reason.UNCONVERTIBLE_VALUE, f"facts.{name}: {fault}") from None
        except TypeError:  # no object, so that it has no names to put facts to
            raise Refused(Reason.UNCONVERTIBLE_VALUE, f"facts.{name}: not_an_object") from None
    return part


def _rule(found: Get, default: Any, converts: list[Convert]) -> Get:
    def get(part: Any, making: Making) -> Any:
        value = found(part, making)
        if value is None or (type(value) is str and not value.strip()):
            return default
        for convert in converts:
            value = convert(value, making)
            if value is None:  # looked up in vain
                return default
        return str(value) if type(value) is int else value  # an event's codes and amounts are texts

    return get


def _watched(do: Callable[[Any, Any], Any], watch: Watch, here: str, step: str) -> Callable[[Any, Any], Any]:
    def watched(value: Any, around: Any) -> Any:
        try:
            result = do(value, around)
        except (Unconvertible, NotFound) as fault:
            watch(here, step, fault)
            raise
        watch(here, step, result)
        return result

    return watched


def _constant(value: Any, _part: Any, _making: Making) -> Any:
    return value


def _at(find: Find) -> Get:
    return lambda part, _: find(part)


def _of_record(find: Find, _part: Any, making: Making) -> Any:
    if find not in making.memo:  # once an event, not once a line
        making.memo[find] = find(making.tree)
    return making.memo[find]


def _headers(names: Sequence[str], _part: Any, making: Making) -> str | None:
    values = [_header_of(name, None, making.record) for name in names]
    return None if None in values else "/".join(filter(None, values))


def _header_of(name: str, _part: Any, record: Record) -> str | None:
    wanted = name.lower()  # webhook bridges keep HTTP's headers, whose case means nothing
    value = next((value for header, value in record.headers if header.lower() == wanted), None)
    return value.decode(errors="replace") if value is not None else None


def _key(_part: Any, making: Making) -> str | None:
    key = making.record.key
    return key.decode(errors="replace") if key is not None else None


def _is_something(value: Any) -> bool:
    return value is not None and value is not False and value not in ("", [], {})


def _is_zero(amount: Any) -> bool:
    try:
        return not float(text_of(amount))
    except (Unconvertible, ValueError):
        return False


def _as_list(found: Any) -> list[Any]:
    if found is None:
        return []
    if isinstance(found, list):
        return [item for item in found if item is not None]
    return [found]


def shown(part: Any) -> str:
    """A part of a record as text, for people: JSON, or XML."""
    if isinstance(part, etree._Element):
        return etree.tostring(part, encoding="unicode", pretty_print=True)
    return json.dumps(part, indent=2, ensure_ascii=False)
