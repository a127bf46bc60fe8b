"""`Contract`: the format of one source, and its conversion to `SaleEvent`s. The model of a contract file (YAML).

A contract has a rule for each field of the event: where the value is in the record, and the steps that convert it
for `SaleEvent`. The result is validated as a `SaleEvent`, like a record of the canonical format: a contract can't
make an invalid event valid.

Paths are JMESPath, on the record's JSON, or, in XML, XPath; inside `lines` and `tenders` they begin at the part, or,
with `of: record`, at the record. A value that a path does not find is absent, as null is. `facts` are values computed
once per record, which its paths then find by name: values that several rules need, or that conditions test.
"""

from difflib import get_close_matches
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    field_validator,
    model_validator,
)

from schemas.sale import Customer, EventType, LineDiscount, OriginalReceipt, ReceiptTotals, SaleEvent, SaleLine, Tender

Format = Literal["json", "cloudevents", "avro", "json_schema", "xml", "csv"]
Scalar = str | int | bool

_EVENT = {field.alias or name for name, field in SaleEvent.model_fields.items()} - {
    "source",
    "type",
    "lines",
    "tenders",
}
_PARTS: dict[str, type[Any]] = {"customer": Customer, "totals": ReceiptTotals, "original": OriginalReceipt}
#: What `fields` may name: `receipt`, `totals.gross`, `customer.id`, ….
EVENT_FIELDS = frozenset(_EVENT - _PARTS.keys()) | {
    f"{part}.{name}" for part, kind in _PARTS.items() for name in kind.__annotations__
}
LINE_FIELDS = frozenset(SaleLine.__annotations__) - {"discounts"}
TENDER_FIELDS = frozenset(Tender.__annotations__)
DISCOUNT_FIELDS = frozenset(LineDiscount.__annotations__)
TAX_FIELDS = frozenset({"rate", "amount"})


def _a_number(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("write it as a number, without quotes")
    return value


#: For whole numbers, which pydantic else makes of texts and of true, too.
NUMBER = BeforeValidator(_a_number)


class ContractModel(BaseModel):
    """Nothing that the model does not know: a typing error must not be a rule that never applies."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DecimalNumber(ContractModel):
    """How a number is written."""

    point: Annotated[Literal[".", ","], Field(description="the decimal mark")] = "."
    thousands: Annotated[
        Literal["", ",", ".", " ", "'", "_"], Field(description="what may stand between groups of three")
    ] = ""
    signs: Annotated[
        tuple[str, ...], Field(description="what may stand before or behind the number and is left out: $, EUR, kg")
    ] = ()
    brackets: Annotated[Literal["", "negative"], Field(description="negative: (2.50) is -2.50")] = ""


class TimeFormats(ContractModel):
    """How a time is written; formats are tried in order.

    A time without an offset is local: of `zone`, or of the event's store. When clocks go forward an hour does not
    exist, when they go back one comes twice: `gap` and `fold` say which time a till means then.
    """

    formats: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="iso, epoch_s, epoch_ms, excel, or a strptime pattern such as %d/%m/%Y %H:%M"),
    ] = ("iso",)
    zone: Annotated[str, Field(description="a name like Europe/Berlin, or `store`: of the settings' store")] = "store"
    fold: Annotated[Literal["earlier", "later"], Field(description="which of the two is meant")] = "earlier"
    gap: Annotated[
        Literal["reject", "shift"], Field(description="an hour that does not exist: a dead letter, or an hour later")
    ] = "reject"

    @field_validator("formats", mode="before", json_schema_input_type=str | list[str])
    @classmethod
    def _one_or_more(cls, formats: Any) -> Any:
        return (formats,) if isinstance(formats, str) else formats


class CodeTable(ContractModel):
    """A table of codes. Without `otherwise` a code that is not in it is a dead letter."""

    table: dict[str, Scalar]
    otherwise: Scalar | None = None


class BooleanTexts(ContractModel):
    """Which texts mean yes and no (JSON's own booleans always do)."""

    yes: tuple[str, ...] = ("true", "1", "y", "yes")
    no: tuple[str, ...] = ("false", "0", "n", "no")


class ListLookup(ContractModel):
    """Finds the item of a list in the record whose `by` equals the value, and takes its `take`; absent without a
    match."""

    rows: Annotated[str, Field(alias="in", description="JMESPath, from the record")]
    by: str
    take: str


class ConversionStep(ContractModel):
    """One conversion, named by its key."""

    decimal: DecimalNumber | None = Field(None, description="a number as text, in the way it is written")
    minor_units: Literal[True] | str | None = Field(
        None, description="cents to euros: by the event's currency, or by one that is named"
    )
    multiply: str | None = Field(None, description="grams to kilograms: '0.001'")
    round: Literal[True] | None = Field(None, description="to the event's currency, half up")
    time: TimeFormats | None = None
    codes: CodeTable | None = None
    boolean: BooleanTexts | None = None
    text: Literal["trim", "half_width"] | None = Field(
        None,
        description="trim: NFC, no white space around; half_width: full-width digits, letters and marks as ASCII too",
    )
    gtin: Literal["check", "to_14"] | None = Field(
        None, description="the check digit of a GTIN is right; to_14: and it is filled up to 14 digits"
    )
    sign: Literal["negate", "absolute"] | None = None
    lookup: ListLookup | None = None
    revision: Literal["time"] | None = Field(
        None, description="of the time of a change (ISO): a revision that grows, the seconds since 2000"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> "ConversionStep":
        if len(self.model_fields_set) != 1:
            raise ValueError("a step is one conversion, such as `decimal: {point: ','}`; write a list for several")
        return self

    @property
    def name(self) -> str:
        """Which conversion it is."""
        return next(iter(self.model_fields_set))

    @property
    def word(self) -> str:
        """The step's display name: `trim` and `negate` rather than `text` and `sign`."""
        value = getattr(self, self.name)
        return (
            value if self.name in ("text", "sign") else f"{self.name} {value}" if isinstance(value, str) else self.name
        )


#: Conversions that may be given by name alone.
_SHORT: dict[str, dict[str, Any]] = {
    "decimal": {"decimal": {}},
    "minor_units": {"minor_units": True},
    "round": {"round": True},
    "time": {"time": {}},
    "boolean": {"boolean": {}},
    "trim": {"text": "trim"},
    "half_width": {"text": "half_width"},
    "gtin": {"gtin": "check"},
    "negate": {"sign": "negate"},
    "absolute": {"sign": "absolute"},
    "revision": {"revision": "time"},
}


ShortStep = Literal[
    "decimal", "minor_units", "round", "time", "boolean", "trim", "half_width", "gtin", "negate", "absolute", "revision"
]


def _steps(steps: Any) -> Any:
    listed = steps if isinstance(steps, list | tuple) else [steps]
    return tuple(_SHORT.get(step, step) if isinstance(step, str) else step for step in listed)


class FieldRule(ContractModel):
    """The source of a field's value (one of `path`, `header`, `key`, `value`, `derive`), and its conversion."""

    path: str | None = Field(None, description="JMESPath, or XPath in XML")
    of: Literal["part", "record"] = Field("part", description="where `path` begins; they differ inside a list only")
    header: str | tuple[str, ...] | None = Field(
        None,
        description="a Kafka header of the record; several are joined by `/` (that of all but the last "
        "is written `%2F`), and absent when one of them is",
    )
    key: Literal[True] | None = Field(None, description="the record's key")
    value: Scalar | None = Field(None, description="always this")
    derive: Literal["total"] | None = Field(
        None, description="`totals.gross` alone: the sum of the lines, each rounded as the check of receipts does"
    )
    default: Scalar | None = Field(None, description="where nothing is found, or only white space")
    steps: Annotated[
        tuple[ConversionStep, ...],
        BeforeValidator(_steps, json_schema_input_type=ConversionStep | ShortStep | list[ConversionStep | ShortStep]),
        Field(alias="as", description="one conversion, or a list of them"),
    ] = ()

    @model_validator(mode="after")
    def _one_place(self) -> "FieldRule":
        if len(self.model_fields_set & {"path", "header", "key", "value", "derive"}) != 1:
            raise ValueError("a rule takes its value from one of path, header, key, value, derive")
        if self.derive is not None and (self.steps or self.default is not None):
            raise ValueError("derive computes the value: it takes neither `as` nor a default")
        return self


def _rule(rule: Any) -> Any:
    return {"path": rule} if isinstance(rule, str) else rule


AnyRule = Annotated[FieldRule, BeforeValidator(_rule, json_schema_input_type=FieldRule | str)]


def _among(names: frozenset[str]) -> AfterValidator:
    def known(name: str) -> str:
        if name not in names:
            meant = get_close_matches(name, names, 1)
            hint = f"did you mean {meant[0]}?" if meant else f"there are {', '.join(sorted(names))}"
            raise ValueError(f"there is no such field; {hint}")
        return name

    return AfterValidator(known)


def _derived(rules: dict[str, AnyRule]) -> dict[str, AnyRule]:
    derived = sorted(name for name, rule in rules.items() if rule.derive is not None and name != "totals.gross")
    if derived:
        raise ValueError(f"only totals.gross can be derived, not {', '.join(derived)}")
    return rules


def _listed(names: frozenset[str]) -> Any:
    """For editors, which complete names."""
    return Field(json_schema_extra={"propertyNames": {"enum": cast(Any, sorted(names))}})


EventRules = Annotated[
    dict[Annotated[str, _among(EVENT_FIELDS)], AnyRule], AfterValidator(_derived), _listed(EVENT_FIELDS)
]
LineRules = Annotated[
    dict[Annotated[str, _among(LINE_FIELDS)], AnyRule], AfterValidator(_derived), _listed(LINE_FIELDS)
]
TenderRules = Annotated[
    dict[Annotated[str, _among(TENDER_FIELDS)], AnyRule], AfterValidator(_derived), _listed(TENDER_FIELDS)
]
TaxRules = Annotated[dict[Annotated[str, _among(TAX_FIELDS)], AnyRule], AfterValidator(_derived), _listed(TAX_FIELDS)]
DiscountRules = Annotated[
    dict[Annotated[str, _among(DISCOUNT_FIELDS)], AnyRule], AfterValidator(_derived), _listed(DISCOUNT_FIELDS)
]


class DiscountList(ContractModel):
    """One discount of the line for each part that `each` finds; amounts of zero are left out."""

    each: str
    fields: DiscountRules


class TaxList(ContractModel):
    """The taxes of the line, of which its `tax_rate` is made: `rate` in percent, `amount` in money, or both.

    The line's rate is the sum of the stated rates. Where only amounts are stated, it is a rate that gives them to the
    cent: one that the receipt states elsewhere, one of the contract's `tax_rates`, or a round one that alone does so.
    Otherwise the record is a dead letter.
    """

    each: str
    fields: TaxRules


Names = dict[Annotated[str, Field(pattern=r"^[a-z_]+$")], str]
Values = Annotated[
    Names, Field(description="xml: found once a part, in this order, and then `$name` in its paths: variables of XPath")
]


class LineList(ContractModel):
    """One line for each part that `each` finds."""

    each: str
    values: Values = {}
    fields: LineRules
    discounts: tuple[DiscountList, ...] = ()
    taxes: tuple[TaxList, ...] = ()


class TenderList(ContractModel):
    """One tender for each part that `each` finds."""

    each: str
    fields: TenderRules


class Condition(ContractModel):
    """Holds when the value of a rule is one of `is`; without `is`, when there is one and it is not false or empty."""

    path: str | None = None
    header: str | None = None
    one_of: tuple[Scalar, ...] | None = Field(None, alias="is")

    @field_validator("one_of", mode="before", json_schema_input_type=Scalar | list[Scalar] | None)
    @classmethod
    def _one_or_more(cls, values: Any) -> Any:
        return values if isinstance(values, list | tuple) or values is None else (values,)

    @model_validator(mode="after")
    def _one_place(self) -> "Condition":
        if (self.path is None) == (self.header is None):
            raise ValueError("a condition looks at one of path, header")
        return self


class RecordKind(ContractModel):
    """One kind of record: `type` says which event it becomes, or `skip` why it doesn't become one.

    The first kind whose every `when` holds is taken; its rules are added to the contract's own, and take precedence.
    """

    when: tuple[Annotated[Condition, BeforeValidator(_rule, json_schema_input_type=Condition | str)], ...] = ()
    type: EventType | None = None
    skip: str | None = None
    facts: dict[str, str] = {}
    fields: EventRules = {}
    lines: tuple[LineList, ...] | None = None
    tenders: tuple[TenderList, ...] | None = None
    taxes: tuple[TaxList, ...] | None = None

    @field_validator("when", mode="before", json_schema_input_type=Condition | str | list[Condition | str])
    @classmethod
    def _one_or_more(cls, conditions: Any) -> Any:
        return conditions if isinstance(conditions, list | tuple) else (conditions,)

    @model_validator(mode="after")
    def _event_or_not(self) -> "RecordKind":
        if (self.type is None) == (self.skip is None):
            raise ValueError("a kind has a `type`, the event it becomes, or says with `skip` why it becomes none")
        return self


class ContractExample(ContractModel):
    """A record and its outcome: `events`, nothing (`skipped`), or a dead letter (`rejected`: its reason)."""

    name: str
    file: str | None = Field(None, description="the record's value, beside the contract")
    value: JsonValue = Field(None, description="the record's value: text as it stands, all else as JSON")
    headers: dict[str, str] = {}
    key: str | None = None
    events: tuple[dict[str, JsonValue], ...] | None = None
    skipped: Literal[True] | None = None
    rejected: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> "ContractExample":
        if len(self.model_fields_set & {"file", "value"}) != 1:
            raise ValueError("an example has its record in a `file`, or as `value`")
        if len(self.model_fields_set & {"events", "skipped", "rejected"}) != 1:
            raise ValueError("an example ends in one of events, skipped, rejected")
        return self


def _as_text(rate: Any) -> Any:
    return str(rate) if isinstance(rate, int | float) and not isinstance(rate, bool) else rate


#: A rate in percent, as it is written in YAML or as text.
TaxRate = Annotated[
    str,
    BeforeValidator(_as_text, json_schema_input_type=str | float),
    Field(pattern=r"^(100|[0-9]{1,2}(\.[0-9]{1,4})?)$"),
]


class XmlOptions(ContractModel):
    """How paths see XML."""

    namespaces: Annotated[
        dict[str, str] | Literal["ignore"],
        Field(description="prefixes for XPath; `ignore`: elements and attributes go by their local names"),
    ] = "ignore"


class Contract(ContractModel):
    """One source. `source` is the events' source; `version` is noted in dead letters."""

    contract: Annotated[Literal[1], NUMBER] = Field(description="the version of this format")
    source: Annotated[str, Field(min_length=1, max_length=64)]
    version: str = "1"
    description: str = ""
    format: Format = "json"
    xml: XmlOptions = XmlOptions()
    group_by: tuple[str, ...] = Field((), description="csv: columns whose values together name a receipt")
    fill_down: tuple[str, ...] = Field(
        (),
        description="csv: columns whose empty cells mean the value above, as merged cells do: those of `group_by` from "
        "the row above, others from the rows of the same receipt",
    )
    skip_lines: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="csv: beginnings of lines that are no rows, such as totals and rules below the table"
    )
    names: Annotated[
        Names, Field(description="pieces of paths: `$name` in a path, or in a later piece, stands for the piece's text")
    ] = {}
    events: str | None = Field(None, description="where a record holds several: each part is one")
    values: Values = {}
    kinds: Annotated[tuple[RecordKind, ...], Field(min_length=1)]
    facts: dict[str, str] = Field(
        {}, description="name: JMESPath; in order, so that one may use those before it. Conditions don't see them."
    )
    fields: EventRules = {}
    lines: tuple[LineList, ...] = ()
    tenders: tuple[TenderList, ...] = ()
    taxes: Annotated[
        tuple[TaxList, ...],
        Field(
            description="the taxes that the receipt prints for all of its lines: rates that lines without one may "
            "have, and amounts that the lines of a rate bear together"
        ),
    ] = ()
    tax_rates: Annotated[
        tuple[TaxRate, ...],
        Field(description="the rates in percent that this source sells at: no other is derived from amounts"),
    ] = ()
    personal: tuple[str, ...] = Field((), description="paths of personal data, for tools that show records")
    examples: tuple[ContractExample, ...] = ()

    @model_validator(mode="after")
    def _groups_rows(self) -> "Contract":
        if self.group_by and self.format != "csv":
            raise ValueError("group_by is for format csv")
        if self.skip_lines and self.format != "csv":
            raise ValueError("skip_lines are for format csv")
        if self.fill_down and not self.group_by:
            raise ValueError("fill_down takes group_by: only that says where a receipt ends")
        if self.format == "xml" and (self.facts or any(kind.facts for kind in self.kinds)):
            raise ValueError("facts are for JSON; XPath reaches the whole document from anywhere")
        if self.values and self.format != "xml":
            raise ValueError("values are for format xml")
        return self

    @property
    def label(self) -> str:
        """`source@version`."""
        return f"{self.source}@{self.version}"
