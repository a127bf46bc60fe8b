"""`DeadLetter`: a record that could not become a document, kept byte for byte with its reason.

In the dead-letter topic the record's own key, value and headers are unchanged. What Tillstream adds are headers:
`__connect.errors.*`, as Kafka Connect writes them, so that existing tools understand them, and `tillstream.*`. A
later pass overwrites these headers, it never appends. The source topic, partition and offset are the record's
identity: after a crash the same record may be in the topic twice.
"""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Reason(StrEnum):
    """The reason for a dead letter: a closed set of permanent codes. `advice` gives the remedy for each."""

    INVALID_JSON = "invalid_json"
    AMBIGUOUS_JSON = "ambiguous_json"
    INVALID_XML = "invalid_xml"
    INVALID_AVRO = "invalid_avro"
    NO_SCHEMA_ID = "no_schema_id"
    UNKNOWN_SCHEMA = "unknown_schema"
    UNPLACED_RECORD = "unplaced_record"
    UNCONVERTIBLE_VALUE = "unconvertible_value"
    UNCERTAIN_TAX_RATE = "uncertain_tax_rate"
    DAMAGED_CODE = "damaged_code"
    SCHEMA_MISMATCH = "schema_mismatch"
    UNKNOWN_CURRENCY = "unknown_currency"
    INVALID_AMOUNT = "invalid_amount"
    IMPLAUSIBLE_TIME = "implausible_time"
    EMPTY_RECEIPT = "empty_receipt"
    LINE_MISMATCH = "line_mismatch"
    TOTALS_MISMATCH = "totals_mismatch"
    PAYMENT_MISMATCH = "payment_mismatch"
    WRONG_SIGN = "wrong_sign"
    UNKNOWN_STORE = "unknown_store"
    UNMAPPED_STORE = "unmapped_store"
    UNMAPPED_ITEM = "unmapped_item"
    UNMAPPED_TAX = "unmapped_tax"
    UNMAPPED_TENDER = "unmapped_tender"
    UNMAPPED_CUSTOMER = "unmapped_customer"
    IMPLAUSIBLE_VALUE = "implausible_value"
    MISSING_VALUE = "missing_value"
    DUPLICATE_LINES = "duplicate_lines"
    WRONG_CURRENCY = "wrong_currency"
    HELD_OUTLIER = "held_outlier"
    HELD_MISSING_VALUE = "held_missing_value"
    HELD_DUPLICATE_LINES = "held_duplicate_lines"
    HELD_CURRENCY = "held_currency"
    HELD_TIME = "held_time"
    HELD_TOTALS = "held_totals"
    HELD_REFUND = "held_refund"
    CONFLICTING_DUPLICATE = "conflicting_duplicate"
    CONFLICTING_RECEIPT = "conflicting_receipt"
    REFUSED_BY_SINK = "refused_by_sink"
    ENDS_WORKER = "ends_worker"

    @property
    def meaning(self) -> str:
        """One sentence: the fault that was found."""
        return _TEXTS[self][0]

    @property
    def advice(self) -> str:
        """One or two sentences: what to do about it."""
        return _TEXTS[self][1]


_TEXTS: dict[Reason, tuple[str, str]] = {
    Reason.INVALID_JSON: (
        "The value is not one JSON text in UTF-8.",
        "Look at the bytes: a cut-off record, another format or another topic's record. Repair the producer and have "
        "the till send the receipt again.",
    ),
    Reason.AMBIGUOUS_JSON: (
        "An object of the value has the same key twice.",
        "Parsers disagree on which one counts, so neither is taken. Repair the producer, then patch and replay.",
    ),
    Reason.INVALID_XML: (
        "The value is not one well-formed XML document, or has a document type, which may do harm.",
        "Look at the bytes: a cut-off record, another encoding or another format. Repair the producer and send again.",
    ),
    Reason.INVALID_AVRO: (
        "The bytes are not what the record's schema says.",
        "Often plain Avro that happens to begin like a schema id, or a producer that names another schema than it "
        "writes by. Repair the producer and send again.",
    ),
    Reason.NO_SCHEMA_ID: (
        "The value does not begin with a schema's id (Confluent's wire format); the detail says what it looks like.",
        "Have the producer use a serializer of the Schema Registry, or correct the contract's format; for plain JSON "
        "that is json. Then replay.",
    ),
    Reason.UNKNOWN_SCHEMA: (
        "The Schema Registry has no schema with the record's id, or it is of another kind than the contract's format.",
        "Compare the settings' registry with the producer's, and restore the schema if it was deleted for good. Plain "
        "Avro without an id may look like this too. Then replay.",
    ),
    Reason.UNPLACED_RECORD: (
        "The source's contract has no kind of record that this one is.",
        "Look at the record: either the contract needs one more kind (`type`, or `skip`), or the record belongs into "
        "another topic. `tillstream map try` shows what the conditions see. Then replay.",
    ),
    Reason.UNCONVERTIBLE_VALUE: (
        "A value is not written in the way that the source's contract says; the detail names the field and the fault.",
        "Correct the contract (another decimal mark, time format or code) or the producer, then replay.",
    ),
    Reason.UNCERTAIN_TAX_RATE: (
        "A line's tax is stated as an amount, and no rate that gives it is certain; the detail says why.",
        "Declare the rates that the source sells at in its contract (`tax_rates: [19, 7]`), or have the source state "
        "the rate. Where the detail says no_rate_fits, the line's amount or its tax is another one than the contract "
        "reads. Then replay.",
    ),
    Reason.DAMAGED_CODE: (
        "A spreadsheet has turned a code (an article's, a receipt's, a customer's) into a number or a date, as in "
        "4.00638E+12 or 3-Mar: its digits are lost.",
        "Export once more with that column as text, or without the spreadsheet, and import that; the lost digits are "
        "in no record. To save one receipt, patch the code and replay.",
    ),
    Reason.SCHEMA_MISMATCH: (
        "A field is missing, of the wrong type or out of its range; the detail names the field and the kind of fault.",
        "Compare the record with schemas/published/sale_event.schema.json. Repair the producer, or patch and replay.",
    ),
    Reason.UNKNOWN_CURRENCY: (
        "The currency is no current ISO 4217 currency with minor units.",
        "Correct the till's currency setting and replay with the right code.",
    ),
    Reason.INVALID_AMOUNT: (
        "An amount has more decimal places than its currency has minor units, a price or quantity more than six, or it "
        "is 10^12 or more.",
        "The till computes in binary floating point. Repair its rounding, then patch and replay.",
    ),
    Reason.IMPLAUSIBLE_TIME: (
        "The event's time lies before 2000, more than a day ahead of the worker's clock, or outside of what the "
        "mapping's cleaning rules allow.",
        "Set the till's clock; patch the time and replay.",
    ),
    Reason.EMPTY_RECEIPT: (
        "A sale, return or void has no lines.",
        "If the till sends 'no sale' receipts, have it leave them out. Otherwise find out where the lines went.",
    ),
    Reason.LINE_MISMATCH: (
        "A line's amount is not quantity × unit price - discounts, within the stated tolerance.",
        "Often a discount that is missing from the event, or a quantity in another unit than the price.",
    ),
    Reason.TOTALS_MISMATCH: (
        "The receipt's totals are not the sums of its lines, within the stated tolerance.",
        "Often a missing line, a discount on the whole receipt, or a wrong tax-inclusive flag.",
    ),
    Reason.PAYMENT_MISMATCH: (
        "The tenders do not add up to the receipt's gross total.",
        "Often change that is not sent as a negative tender, or a tender that is missing.",
    ),
    Reason.WRONG_SIGN: (
        "A return or void has a negative total; what it gives back is stated as a positive amount.",
        "Have the till send quantities and amounts of returns as the receipt prints them, positive. Patch and replay.",
    ),
    Reason.UNKNOWN_STORE: (
        "The settings list the stores there are, and this one is not among them.",
        "Add the store with its time zone and cut-off to the settings, restart, and replay.",
    ),
    Reason.UNMAPPED_STORE: (
        "The mapping's table of stores has no row for the store, or the ERP has no point of sale for it.",
        "Add the row, or the point of sale. The worker reads the table again by itself; then replay.",
    ),
    Reason.UNMAPPED_ITEM: (
        "The mapping's table of items has no row for a line's sku, or the ERP has no such article; see the detail.",
        "Add the rows, or the articles. The worker reads the tables again by itself; then replay what has this reason.",
    ),
    Reason.UNMAPPED_TAX: (
        "The mapping's table of taxes has no row for a line's rate and category, or the ERP taxes the item otherwise.",
        "Add the row that the detail names, or correct the rate, at the till or in the ERP; then replay.",
    ),
    Reason.UNMAPPED_TENDER: (
        "The mapping's table of tenders has no row for a means of payment, or the ERP has no such method.",
        "Add the row, or the method. The worker reads the table again by itself; then replay what has this reason.",
    ),
    Reason.UNMAPPED_CUSTOMER: (
        "The mapping's table of customers has no row for the receipt's customer, who is named in the record alone.",
        "Add the customer, or set `unmapped: pass` for that table; then replay.",
    ),
    Reason.IMPLAUSIBLE_VALUE: (
        "A quantity, price, discount or total is outside of what the mapping's cleaning rules allow.",
        "Correct the till or the rule; patch the record, and replay.",
    ),
    Reason.MISSING_VALUE: (
        "A value is missing that the mapping's cleaning rules ask for.",
        "Have the till send it, or give it in the table of items (rule `fix`); then replay.",
    ),
    Reason.DUPLICATE_LINES: (
        "A receipt has the same line twice, which the mapping's cleaning rules forbid.",
        "Find out whether the goods were sold twice. Repair the producer; patch the record and replay.",
    ),
    Reason.WRONG_CURRENCY: (
        "The receipt's currency is not the one that the mapping gives for its store, or not that of the ERP's company.",
        "Correct the till's currency setting, or the table of stores; then replay.",
    ),
    Reason.HELD_OUTLIER: (
        "A quantity, price, discount or total is far from what is plausible: held, to be looked at.",
        "If it is right, widen the rule or set it to `flag`, and replay. If not, patch the record and replay.",
    ),
    Reason.HELD_MISSING_VALUE: (
        "A value is missing: held, to be looked at.",
        "Give it in the table of items (rule `fix`), or patch the record; then replay.",
    ),
    Reason.HELD_DUPLICATE_LINES: (
        "A receipt has the same line twice: held, to be looked at.",
        "If both were sold, set the rule to `flag` and replay; if not, patch the record and replay.",
    ),
    Reason.HELD_CURRENCY: (
        "The receipt's currency is not the store's own: held, to be looked at.",
        "If it is right, set the rule to `flag` and replay. If not, correct the till; patch the record and replay.",
    ),
    Reason.HELD_TIME: (
        "The receipt is from the future, or older than the mapping allows: held, to be looked at.",
        "If it is right, widen the rule and replay. If not, set the till's clock; patch the time and replay.",
    ),
    Reason.HELD_TOTALS: (
        "The receipt's totals differ from its lines, within the mapping's tolerance: held, to be looked at.",
        "If the difference is the till's rounding, set the rule to `fix` or `flag` and replay.",
    ),
    Reason.HELD_REFUND: (
        "A return or void refers to a receipt that the ERP does not have: it waits for it, or has waited in vain.",
        "While it waits, the worker tries again by itself. Afterwards find out where the receipt is and replay, or set "
        "the rule `refunds` to `flag` and replay.",
    ),
    Reason.CONFLICTING_DUPLICATE: (
        "An event with the same id and other content was delivered before.",
        "The till reuses ids or changes an event after sending it. Compare both; send a correction as a new event "
        "with a higher revision.",
    ),
    Reason.CONFLICTING_RECEIPT: (
        "Another event delivered the same revision of the same receipt with other content.",
        "Two events claim one receipt number. Compare both; send a correction with a higher revision, or another "
        "receipt number.",
    ),
    Reason.REFUSED_BY_SINK: (
        "The ERP refused this document; the detail is its answer's code.",
        "Do what the code says (missing master data, a closed period, an invalid value), then replay.",
    ),
    Reason.ENDS_WORKER: (
        "A worker ended twice while it was at this record, the second time with nothing else at work; the detail is "
        "the kind of fault.",
        "A fault in Tillstream, not in the record: report it, with the worker's log of both times. Replay when a "
        "version that repairs it runs.",
    ),
}


class DeadLetter(BaseModel):
    """The contents of a dead letter's headers. Never personal data: `detail` is a field path and a kind of fault, no
    value."""

    model_config = ConfigDict(frozen=True)

    topic: str
    partition: int
    offset: int
    reason: Reason
    detail: str
    stage: str = Field(
        description="The step that rejected the record: decode, check, map or write; line: it ended the worker."
    )
    attempts: int = Field(1, ge=1)
    first_failed_at: datetime
    last_failed_at: datetime
    event_id: str | None = None
    store: str | None = None
    receipt: str | None = Field(
        None, description="The document's external reference: source/store/register/number/type"
    )
    amount: str | None = Field(None, description="The receipt's gross total and currency, as the event states them.")
    mapping_version: str | None = Field(None, description="Of the contract and of the mapping: shop@7 erp@3")
    replay_id: str | None = None
    truncated: int | None = Field(
        None, description="Bytes of the whole value, when the record was too large: it still lies at the place above."
    )
    sha256: str | None = Field(None, description="Digest of the whole value, when it was truncated.")
