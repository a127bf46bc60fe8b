"""`Mapping`: the ERP's codes for the tills' codes, and the cleaning rules. The model of a mapping file (YAML).

A table comes from a file (CSV, or YAML: a list of rows), from an SQL query, or is in the mapping itself (`rows`).
A row of items, tenders or taxes that names a `store` holds in that store alone; what it leaves empty is as in the row
of the same code without a store.
"""

from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from schemas.codes import bare_code, is_damaged
from schemas.contract import NUMBER, ContractModel
from schemas.money import LIMIT
from schemas.opening_hours import OpeningHours
from schemas.sale import Code, Text
from schemas.store import CutOff, TimeZone


class LookupKey(NamedTuple):
    """The key by which a row is looked up; a row without a `store` applies to every store."""

    store: str | None
    code: str


def _as_text(value: Any) -> Any:
    """Codes are text: spreadsheets, databases and YAML make numbers of them."""
    if isinstance(value, str):
        return bare_code(value) if value.startswith(('="', "'")) else value
    return str(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else value


def _undamaged(value: str) -> str:
    if is_damaged(value):
        raise ValueError(
            "a spreadsheet has turned this code into a number or a date, and its digits are lost; export the table "
            "with that column as text"
        )
    return value


def _storable(value: str) -> str:
    if "\0" in value:
        raise ValueError("has a NUL character, which no database and no file system takes")
    return value


Storable = AfterValidator(_storable)
ErpCode = Annotated[
    Code, Storable, AfterValidator(_undamaged), BeforeValidator(_as_text, json_schema_input_type=str | int)
]
Price = Annotated[Decimal, Field(ge=0, lt=LIMIT, decimal_places=6)]
Rate = Annotated[Decimal, Field(ge=0, le=100, decimal_places=4)]


class MasterRow(ContractModel):
    """A row of master data."""

    @property
    def key(self) -> LookupKey:
        """Return the key by which the row is looked up."""
        raise NotImplementedError


class ItemRow(MasterRow):
    """An article or service. Without `item_code` its code in the ERP is the sku."""

    sku: ErpCode
    store: ErpCode | None = None
    item_code: ErpCode | None = None
    unit: ErpCode | None = Field(None, description="the ERP's unit of measure; quantities are not converted")
    tax_category: ErpCode | None = Field(None, description="what `taxes` may be looked up by, beside the rate")
    cost: Price | None = Field(None, description="of one unit")
    list_price: Price | None = Field(None, description="as tills print it; the rule `list_price` compares with it")
    description: Annotated[Text, Storable] | None = Field(
        None, description="for lines without one, by the rule `description`"
    )

    @property
    def key(self) -> LookupKey:
        return LookupKey(self.store, self.sku)


class StoreRow(MasterRow):
    """A store. Time zone, cut-off and opening hours, where stated, go before those of the settings."""

    store: ErpCode
    company: ErpCode | None = None
    warehouse: ErpCode | None = None
    cost_centre: ErpCode | None = None
    timezone: TimeZone | None = None
    cutoff: CutOff | None = None
    opening_hours: OpeningHours | None = None
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = Field(
        None, description="what its receipts are in; the rule `currency` compares with it"
    )

    @property
    def key(self) -> LookupKey:
        return LookupKey(None, self.store)


class TenderRow(MasterRow):
    """A means of payment, by the till's `kind`."""

    kind: ErpCode
    store: ErpCode | None = None
    payment_mode: ErpCode
    account: ErpCode | None = None

    @property
    def key(self) -> LookupKey:
        return LookupKey(self.store, self.kind)


class TaxRow(MasterRow):
    """A tax code, by the line's rate in percent, its item's tax category, or both; the more exact row is taken."""

    rate: Rate | None = None
    category: ErpCode | None = None
    store: ErpCode | None = None
    tax_code: ErpCode

    @model_validator(mode="after")
    def _by_something(self) -> "TaxRow":
        if self.rate is None and self.category is None:
            raise ValueError("a tax code goes by a rate, by a category, or by both")
        return self

    @property
    def key(self) -> LookupKey:
        return LookupKey(self.store, tax_key(self.category, self.rate))


class CustomerRow(MasterRow):
    """A customer, by the id that the till sends."""

    id: ErpCode
    customer_code: ErpCode

    @property
    def key(self) -> LookupKey:
        return LookupKey(None, self.id)


def tax_key(category: str | None, rate: Decimal | None) -> str:
    """Category and rate as one code; 19 and 19.0 are the same rate."""
    return f"{category or ''}/{'' if rate is None else format(rate.normalize(), 'f')}"


class TableQuery(ContractModel):
    """A table in a database, read by one query, which must not write."""

    query: Annotated[str, Field(min_length=1), Storable]
    url: str | None = Field(None, description="without a password; without it, the sink's database")
    password_file: Annotated[str, Storable] | None = None
    changed: Annotated[str, Storable] | None = Field(
        None, description="a cheap query whose answer changes with the table, max(updated_at)"
    )


R = TypeVar("R", bound=MasterRow)


class MasterTable(ContractModel, Generic[R]):
    """The location of one kind of master data, and the handling of unknown codes.

    Without `columns` the columns must have the field names. With it the named ones are read, and no others.
    """

    file: Annotated[str, Storable] | None = Field(None, description="beside the mapping: .csv, .yaml")
    sql: TableQuery | None = None
    rows: tuple[R, ...] | None = None
    columns: dict[str, str] | None = Field(None, description="our name: the table's name")
    delimiter: Annotated[str, Field(min_length=1, max_length=1, description="of a CSV file")] = ","
    unmapped: Annotated[
        Literal["reject", "pass"], Field(description="a dead letter, or the till's own code goes to the ERP")
    ] = "reject"

    @model_validator(mode="after")
    def _one_place(self) -> "MasterTable[R]":
        if len(self.model_fields_set & {"file", "sql", "rows"}) != 1:
            raise ValueError("a table has its rows in one of file, sql, rows")
        return self


NoFix = Literal["reject", "flag", "hold"]
Share = Annotated[Decimal, Field(gt=0, description="0.3 is 30 %")]


class ValueLimits(ContractModel):
    """Values outside are outliers; signs don't count."""

    at_least: Annotated[Decimal, Field(ge=0)] | None = None
    at_most: Annotated[Decimal, Field(ge=0)] | None = None
    then: NoFix

    @model_validator(mode="after")
    def _some(self) -> "ValueLimits":
        if self.at_least is None and self.at_most is None:
            raise ValueError("limits are at_least, at_most, or both")
        return self


class PriceDeviation(ContractModel):
    """A price that differs from its item's `list_price` by more than this share of it."""

    share: Share
    then: NoFix


class FutureLimit(ContractModel):
    """Receipts from the future, beyond what clocks differ by. More than a day ahead is always rejected."""

    minutes: Annotated[int, NUMBER, Field(ge=0, le=1440)]
    then: NoFix


class AgeLimit(ContractModel):
    """Receipts that are older than this number of days."""

    days: Annotated[int, NUMBER, Field(ge=1)]
    then: NoFix


class TotalsTolerance(ContractModel):
    """Totals that differ from the lines' sums by at most `amount`, in the receipt's currency.

    The printed gross counts, and the difference is the document's rounding. What differs by more is rejected, as
    everything that differs is without this rule.
    """

    amount: Annotated[Decimal, Field(gt=0, lt=LIMIT)]
    then: Literal["fix", "flag", "hold"]


class OutlierRule(ContractModel):
    """Values far from the median of the last `days` in the ERP's tables, measured in median deviations.

    `times`: how many median deviations (of at least one percent of the median) are far. Fewer than `warm_up` values
    give no baseline. Baselines are computed every `minutes` from the tables, so a restart does not lose them.
    """

    days: Annotated[int, NUMBER, Field(ge=1, le=3660)] = 90
    warm_up: Annotated[int, NUMBER, Field(ge=5)] = 30
    times: Annotated[Decimal, Field(gt=1)] = Decimal(10)
    minutes: Annotated[int, NUMBER, Field(ge=1)] = 60
    prices: NoFix | None = Field(None, description="a line's unit price, against those of its sku in its currency")
    receipts: NoFix | None = Field(None, description="a receipt's gross, against those of its store in its currency")


class RefundRule(ContractModel):
    """Returns and voids that refer to a receipt which the ERP does not have: tills don't send in each other's order.

    They wait as dead letters `held_refund`, which the worker retries by itself for this time; then they stay
    there (`hold`), or are booked with a remark (`flag`).
    """

    wait_minutes: Annotated[int, NUMBER, Field(ge=0, le=10_080)] = 60
    then: Literal["flag", "hold"]


class CleaningRules(ContractModel):
    """Cleaning rules; each applies only if it is given.

    reject: a dead letter, to be fixed at the source. hold: a dead letter `held_…`, to be reviewed. flag: booked, with
    the finding in the document's `review`. fix: corrected, if the right value is certain.
    """

    duplicate_lines: Literal["reject", "fix", "flag", "hold"] | None = Field(
        None,
        description="the same line twice in a receipt; fix: once, where only then the receipt adds up. A till that "
        "prints a line for each piece has them as a rule",
    )
    description: Literal["reject", "fix", "flag", "hold"] | None = Field(
        None, description="a line without one; fix: the item's, where it has one"
    )
    quantity: ValueLimits | None = None
    unit_price: ValueLimits | None = None
    discount_share: ValueLimits | None = Field(
        None, description="a line's discounts as a share of its price: 0.5 is half"
    )
    gross: ValueLimits | None = Field(None, description="what the receipt costs")
    list_price: PriceDeviation | None = None
    currency: NoFix | None = Field(None, description="another than the store's own in the table of stores")
    future: FutureLimit | None = None
    old: AgeLimit | None = None
    totals: TotalsTolerance | None = None
    usual: OutlierRule | None = None
    refunds: RefundRule | None = None

    def released(self) -> "CleaningRules":
        """Return the same rules with `hold` replaced by `flag`: receipts are booked, with the finding in the review."""
        stated = self.model_dump(exclude_none=True)
        return CleaningRules.model_validate({name: _flagged(rule) for name, rule in stated.items()})


def _flagged(rule: Any) -> Any:
    """Return the rule with `flag` for `hold`; a refund waits no longer."""
    if isinstance(rule, dict):
        waits = {"wait_minutes": 0} if "wait_minutes" in rule else {}
        return {name: _flagged(value) for name, value in rule.items()} | waits
    return "flag" if rule == "hold" else rule


class Mapping(ContractModel):
    """The ERP's codes for the tills' codes. Codes without a table are not mapped: the till's code counts."""

    mapping: Annotated[Literal[1], NUMBER] = Field(description="the version of this format")
    name: Annotated[str, Field(min_length=1, max_length=64)] = "mapping"
    version: str = "1"
    description: str = ""
    items: MasterTable[ItemRow] | None = None
    stores: MasterTable[StoreRow] | None = None
    tenders: MasterTable[TenderRow] | None = None
    taxes: MasterTable[TaxRow] | None = None
    customers: MasterTable[CustomerRow] | None = None
    reload_seconds: Annotated[
        int,
        NUMBER,
        Field(ge=1, description="how often tables are looked at; SQL tables without `changed` are read whole"),
    ] = 10
    cleaning: CleaningRules = CleaningRules()

    @property
    def label(self) -> str:
        """`name@version`, which documents carry."""
        return f"{self.name}@{self.version}"

    def tables(self) -> "dict[str, MasterTable[Any]]":
        """Return the tables of the mapping by name."""
        named = {name: getattr(self, name) for name in ROWS}
        return {name: table for name, table in named.items() if table is not None}


#: The row model of each table.
ROWS: dict[str, type[MasterRow]] = {
    "items": ItemRow,
    "stores": StoreRow,
    "tenders": TenderRow,
    "taxes": TaxRow,
    "customers": CustomerRow,
}
