"""A contract's plans: how each kind of record becomes an event, with all paths and steps compiled."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from schemas.codes import bare_code
from schemas.contract import (
    AnyRule,
    Condition,
    Contract,
    DiscountList,
    FieldRule,
    LineList,
    RecordKind,
    TaxList,
    TenderList,
)
from streams.sources.convert import Conversion, StepError, converter
from streams.sources.jmes import PathFinder
from streams.sources.paths import PathError, json_path, xml_nodes, xml_path
from streams.sources.rules import FieldGetter, PartPredicate, RuleObserver, condition, getter, typed

Fields = list[tuple[str, FieldGetter]]
#: Fields of events and lines that hold codes; a spreadsheet's quoting is removed from them.
_CODES = frozenset(
    {"event_id", "store", "register", "receipt", "cashier", "customer.id", "sku"}
    | {f"original.{name}" for name in ("store", "register", "receipt")}
)
Values = list[tuple[str, PathFinder]]


class PartPlan(NamedTuple):
    """How one list of parts is built: the path that finds them, their fields, and the discounts and taxes of lines."""

    find: Callable[[Any], list[Any]]
    values: Values
    fields: Fields
    discounts: "list[PartPlan]"
    taxes: "list[PartPlan]"


class KindPlan(NamedTuple):
    """How records of one kind become events.

    `total_of_lines`: the gross total is derived from the lines. `id_of_record`: event ids come from a header, so all
    events in one record would have the same id. `shares_taxes`: the receipt prints tax amounts that its lines share.
    """

    kind: RecordKind
    conditions: list[PartPredicate]
    facts: Values
    fields: Fields
    lines: list[PartPlan]
    tenders: list[PartPlan]
    taxes: list[PartPlan]
    total_of_lines: bool = False
    id_of_record: bool = False
    shares_taxes: bool = False


class ContractPlanner:
    """Compiles a contract's plans. Parts that can't be compiled are listed in `faults`, as `path.in.contract: message`.

    `variables` are the XPath variables for the part being built; the code that runs a plan sets them.
    """

    def __init__(self, contract: Contract, watch: RuleObserver | None) -> None:
        self.faults: list[str] = []
        self.variables: dict[str, Any] = {}
        self._contract = contract
        self._watch = watch
        self._xml = contract.format == "xml"
        namespaces = contract.xml.namespaces
        self._namespaces = None if isinstance(namespaces, str) else namespaces
        self._names: dict[str, str] = {}
        for name, piece in contract.names.items():
            self._names[name] = self._expand_names(piece)

    def plan(self, kind: RecordKind, number: int) -> KindPlan:
        location = f"kinds.{number}"
        contract = self._contract
        conditions = [self._condition(when, f"{location}.when.{index}") for index, when in enumerate(kind.when)]
        if kind.skip is not None:
            return KindPlan(kind, conditions, [], [], [], [], [])
        # Store and currency come first, because the steps of other fields need them.
        rules = sorted((contract.fields | kind.fields).items(), key=lambda item: item[0] not in ("store", "currency"))
        locations = {name: location if name in kind.fields else "" for name, _ in rules}
        rules_with_source = [(name, rule) for name, rule in rules if rule.derive is None]
        fields = [
            (name, self._getter(rule, _path(locations[name], "fields", name), name)) for name, rule in rules_with_source
        ]
        lines = contract.lines if kind.lines is None else kind.lines
        tenders = contract.tenders if kind.tenders is None else kind.tenders
        taxes = contract.taxes if kind.taxes is None else kind.taxes
        return KindPlan(
            kind,
            conditions,
            [*self._facts(contract.facts, "facts"), *self._facts(kind.facts, f"{location}.facts")],
            fields,
            self._part_plans(lines, "lines" if kind.lines is None else f"{location}.lines"),
            self._part_plans(tenders, "tenders" if kind.tenders is None else f"{location}.tenders"),
            self._part_plans(taxes, "taxes" if kind.taxes is None else f"{location}.taxes"),
            total_of_lines=len(rules_with_source) < len(rules),
            id_of_record=any(name == "event_id" and rule.header is not None for name, rule in rules_with_source),
            shares_taxes=any("amount" in block.fields for block in taxes),
        )

    def _facts(self, facts: dict[str, str], location: str) -> Values:
        return [(name, self._find(path, f"{location}.{name}")) for name, path in facts.items()]

    def _part_plans(
        self, blocks: Sequence[LineList | TenderList | DiscountList | TaxList], location: str
    ) -> list[PartPlan]:
        plans = []
        for number, block in enumerate(blocks):
            block_location = f"{location}.{number}"
            discounts, taxes = (block.discounts, block.taxes) if isinstance(block, LineList) else ((), ())
            plans.append(
                PartPlan(
                    self.parts_finder(block.each, f"{block_location}.each"),
                    self.values(block.values if isinstance(block, LineList) else {}, f"{block_location}.values"),
                    self._fields(block.fields, block_location),
                    self._part_plans(discounts, f"{block_location}.discounts"),
                    self._part_plans(taxes, f"{block_location}.taxes"),
                )
            )
        return plans

    def values(self, paths: dict[str, str], location: str) -> Values:
        values = []
        for name, path in paths.items():
            values.append((name, self._nodes(path, f"{location}.{name}")))
            self.variables[name] = []  # later paths may use it
        return values

    def _fields(self, rules: dict[str, AnyRule], location: str) -> Fields:
        return [(name, self._getter(rule, _path(location, "fields", name), name)) for name, rule in rules.items()]

    def _getter(self, rule: FieldRule, location: str, name: str) -> FieldGetter:
        converts: list[Conversion] = []
        for number, step in enumerate(rule.steps):
            try:
                converts.append(converter(step))
            except StepError as fault:
                self.faults.append(f"{location}.as.{number}: {fault}")
        get = typed(name, getter(rule, self._find(rule.path, f"{location}.path"), converts, self._watch, location))
        return _bare_code_getter(get) if name in _CODES and rule.value is None else get

    def _condition(self, when: Condition, location: str) -> PartPredicate:
        return condition(when, self._find(when.path, f"{location}.path"), self._watch, location)

    def _find(self, path: str | None, location: str) -> PathFinder:
        if path is None:
            return lambda _: None
        try:
            expanded = self._expand_names(path)
            return xml_path(expanded, self._namespaces, self.variables) if self._xml else json_path(expanded)
        except PathError as fault:
            self.faults.append(f"{location}: {fault}")
            return lambda _: None

    def _nodes(self, path: str, location: str) -> PathFinder:
        try:
            expanded = self._expand_names(path)
            return xml_nodes(expanded, self._namespaces, self.variables) if self._xml else json_path(expanded)
        except PathError as fault:
            self.faults.append(f"{location}: {fault}")
            return lambda _: []

    def _expand_names(self, path: str) -> str:
        """Replace the contract's `$names` in a path by their expressions."""
        return re.sub(
            r"\$([a-z_]+)", lambda name: f"({self._names[name[1]]})" if name[1] in self._names else name[0], path
        )

    def parts_finder(self, path: str, location: str) -> Callable[[Any], list[Any]]:
        find = self._nodes(path, location)
        return lambda node: _as_list(find(node))


def _bare_code_getter(get: FieldGetter) -> FieldGetter:
    def code(part: Any, builder: Any) -> Any:
        value = get(part, builder)
        return bare_code(value) if type(value) is str and value.startswith(('="', "'")) else value

    return code


def _path(*steps: str) -> str:
    return ".".join(filter(None, steps))


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list):
        return [item for item in value if item is not None]
    return [value]
