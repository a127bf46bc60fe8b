"""Avro and JSON Schema by a registry: exact values, clear refusals, and a registry that is away is waited out."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("fastavro", reason="needs the extra `registry`")

from confluent_kafka.schema_registry import Schema
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from fastavro import schemaless_writer

from schemas.contract import Contract
from schemas.dead_letter import Reason
from streams.assembly import find_source
from streams.batch import Batch, Record
from streams.pipeline import process
from streams.settings import SchemaRegistry, Settings
from streams.sink_retry import BackOff
from streams.sources.contracts import ContractError
from streams.sources.formats import UnreadableRecord
from streams.sources.schema_registry import RegistryReader
from streams.sources.source import Source
from tests.support.events import FakeRecord
from tests.support.line import Line
from tests.support.registry import RegistryServer, running_registry

QUICK = BackOff(0.001, 0.002)
RECEIPT = {
    "type": "record",
    "name": "Receipt",
    "fields": [
        {"name": "number", "type": "string"},
        {"name": "gross", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "local", "type": {"type": "long", "logicalType": "local-timestamp-millis"}},
        {"name": "key", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "rate", "type": "double"},
        {"name": "note", "type": ["null", "string"]},
        {"name": "raw", "type": "bytes"},
        {"name": "items", "type": {"type": "array", "items": "long"}},
    ],
}
VALUE = {
    "number": "48121",
    "gross": Decimal("12.30"),
    "at": datetime(2026, 3, 10, 16, 4, 5, 120000, tzinfo=UTC),
    "day": date(2026, 3, 10),
    "local": datetime(2026, 3, 10, 17, 4, 5),  # noqa: DTZ001 (the test needs a local time)
    "key": UUID(int=7),
    "rate": 0.1,
    "note": None,
    "raw": b"\x00\xff",
    "items": [1, 2**60],
}


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    with running_registry() as server:
        server.put(1, RECEIPT)
        yield server


def opened(registry: RegistryServer, form: Literal["avro", "json_schema"] = "avro", **how: Any) -> RegistryReader:
    return RegistryReader(SchemaRegistry(url=registry.url, **how), form, QUICK)


def avro(value: Any = VALUE, schema: Any = RECEIPT, number: int = 1) -> bytes:
    stream = BytesIO()
    schemaless_writer(stream, schema, value)
    return b"\0" + number.to_bytes(4) + stream.getvalue()


async def read(reader: RegistryReader, raw: bytes, headers: list[tuple[str, bytes]] | None = None) -> Any:
    record: Record = FakeRecord(0, raw, headers=headers or [])
    await reader.prepare([record])
    return reader.read(record)


async def refused(reader: RegistryReader, raw: bytes) -> tuple[Reason, str]:
    with pytest.raises(UnreadableRecord) as fault:
        await read(reader, raw)
    return fault.value.reason, fault.value.detail


async def test_logical_types_of_avro_come_out_as_exact_text(registry: RegistryServer) -> None:
    assert await read(opened(registry), avro()) == {
        "number": "48121",
        "gross": "12.30",
        "at": "2026-03-10T16:04:05.120000+00:00",
        "day": "2026-03-10",
        "local": "2026-03-10T17:04:05",
        "key": "00000000-0000-0000-0000-000000000007",
        "rate": "0.1",
        "note": None,
        "raw": "AP8=",
        "items": [1, 2**60],
    }


@given(st.decimals(-(10**9), 10**9, places=2), st.datetimes(datetime(1970, 1, 1), datetime(2199, 1, 1)))  # noqa: DTZ001 (made aware below)
def test_decimals_and_times_are_exact(gross: Decimal, at: datetime) -> None:
    moment = at.replace(tzinfo=UTC, microsecond=0)
    tree = readers()["avro"].read(FakeRecord(0, avro(VALUE | {"gross": gross, "at": moment})))
    assert Decimal(tree["gross"]) == gross
    assert datetime.fromisoformat(tree["at"]) == moment


async def test_what_confluents_serializer_writes_is_read(registry: RegistryServer) -> None:
    class Client:
        def config(self) -> dict[str, Any]:
            return {}

        def register_schema_full_response(self, *_: Any, **__: Any) -> Any:
            return type("Registered", (), {"schema_id": 1, "guid": None})

    conf = {"subject.name.strategy": lambda *_: "receipts-value"}
    write = AvroSerializer(Client(), Schema(json.dumps(RECEIPT), "AVRO"), conf=conf)
    raw = write(VALUE, SerializationContext("receipts", MessageField.VALUE))
    assert raw is not None
    assert (await read(opened(registry), raw))["gross"] == "12.30"


async def test_each_schema_is_fetched_once(registry: RegistryServer) -> None:
    reader = opened(registry)
    for _ in range(3):
        await reader.prepare([FakeRecord(0, avro()), FakeRecord(1, avro())])
    assert registry.requests == {"/schemas/ids/1": 1}


async def test_schema_id_may_stand_in_a_header(registry: RegistryServer) -> None:
    raw = avro()
    tree = await read(opened(registry), raw[5:], [("__value_schema_id", raw[:5])])
    assert tree["number"] == "48121"


async def test_referenced_schemas_are_fetched_too(registry: RegistryServer) -> None:
    money = {"type": "record", "name": "Money", "namespace": "m", "fields": [{"name": "cents", "type": "long"}]}
    total = {"type": "record", "name": "Total", "fields": [{"name": "gross", "type": "m.Money"}]}
    registry.put(3, money)
    registry.put_version("money", 1, 3)
    registry.put(4, total, references=[{"name": "m.Money", "subject": "money", "version": 1}])
    assert await read(opened(registry), b"\0\0\0\0\4\x0e") == {"gross": {"cents": 7}}


@pytest.mark.parametrize(
    ("raw", "looks"),
    [
        (avro()[5:], "no_magic_byte (plain Avro?)"),
        (b"Obj\x01\x04\x14avro.codec", "avro_container_file"),
        (b"\xc3\x01" + bytes(8), "avro_single_object_encoding"),
        (b' {"number": "1"}', "json_without_schema_id"),
        (b"\0\0\1", "no_magic_byte (plain Avro?)"),
        (b"", "empty"),
    ],
)
async def test_what_has_no_schema_id_is_refused_with_what_it_looks_like(
    registry: RegistryServer, raw: bytes, looks: str
) -> None:
    assert await refused(opened(registry), raw) == (Reason.NO_SCHEMA_ID, f"(the whole value): {looks}")
    assert not registry.requests


async def test_id_that_the_registry_does_not_know_is_refused(registry: RegistryServer) -> None:
    assert await refused(opened(registry), avro(number=77)) == (
        Reason.UNKNOWN_SCHEMA,
        "schema 77: not_in_the_registry",
    )


async def test_unknown_id_is_asked_for_again_after_a_minute(registry: RegistryServer) -> None:
    now = 1000.0
    reader = RegistryReader(SchemaRegistry(url=registry.url), "avro", QUICK, lambda: now)
    for _ in range(3):
        await refused(reader, avro(number=2))
    assert registry.requests["/schemas/ids/2"] == 1
    registry.put(2, RECEIPT)
    now += 61
    assert (await read(reader, avro(number=2)))["number"] == "48121"


async def test_schema_of_another_kind_is_refused(registry: RegistryServer) -> None:
    registry.put(2, {"type": "object"}, "JSON")
    assert await refused(opened(registry), avro(number=2)) == (Reason.UNKNOWN_SCHEMA, "schema 2: is_json")


@pytest.mark.parametrize(
    ("raw", "detail"), [(avro()[:-1], "EOFError"), (avro() + b"\0", "bytes_after_the_end"), (avro()[:7], "EOFError")]
)
async def test_bytes_that_are_not_the_schemas_are_refused(registry: RegistryServer, raw: bytes, detail: str) -> None:
    assert await refused(opened(registry), raw) == (Reason.INVALID_AVRO, f"(the whole value): {detail}")


PRICED = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {"gross": {"type": "number", "multipleOf": 0.01, "maximum": 1000}, "number": {"type": "string"}},
    "required": ["gross"],
}


async def test_json_by_a_schema_keeps_its_numbers_as_written(registry: RegistryServer) -> None:
    registry.put(5, PRICED, "JSON")
    for gross in ("19.99", "12.30", "1e2", "7"):
        tree = await read(opened(registry, "json_schema"), b'\0\0\0\0\5{"gross": %s}' % gross.encode())
        assert str(tree["gross"]) == gross


async def test_json_that_is_not_as_its_schema_says_is_refused_by_the_path_and_no_value(
    registry: RegistryServer,
) -> None:
    registry.put(5, PRICED, "JSON")
    reader = opened(registry, "json_schema")
    assert await refused(reader, b'\0\0\0\0\5{"gross": 1.005}') == (
        Reason.SCHEMA_MISMATCH,
        "properties.gross.multipleOf",
    )
    assert await refused(reader, b'\0\0\0\0\5{"number": "secret"}') == (Reason.SCHEMA_MISMATCH, "required")
    assert await refused(reader, b'\0\0\0\0\5{"gross": ') == (Reason.INVALID_JSON, "json_invalid")
    assert await refused(reader, b'\0\0\0\0\5{"gross": 1e999}') == (Reason.INVALID_JSON, "number_out_of_range")
    assert await refused(reader, b'\0\0\0\0\5{"gross": 1, "gross": 2}') == (Reason.AMBIGUOUS_JSON, "duplicate_key")


async def test_what_confluents_json_serializer_writes_is_read(registry: RegistryServer) -> None:
    registry.put(5, PRICED, "JSON")
    conf = {"auto.register.schemas": False, "use.latest.version": False}

    class Client:
        def config(self) -> dict[str, Any]:
            return {}

        def lookup_schema(self, *_: Any, **__: Any) -> Any:
            return type("Registered", (), {"schema_id": 5, "guid": None})

    conf |= {"subject.name.strategy": lambda *_: "x-value"}
    write = JSONSerializer(json.dumps(PRICED), Client(), conf=conf)
    raw = write({"gross": 12.25}, SerializationContext("x", MessageField.VALUE))
    assert raw is not None
    assert await read(opened(registry, "json_schema"), raw) == {"gross": "12.25"}


async def _until(reader: RegistryReader, has_trouble: bool) -> None:
    while (reader.trouble is not None) is not has_trouble:
        await asyncio.sleep(0)


@pytest.mark.parametrize("how", ["nobody answers", "503", "401", "a web server that is no registry"])
async def test_registry_that_is_away_is_waited_out(registry: RegistryServer, how: str) -> None:
    reader = opened(registry)
    if how == "nobody answers":
        registry.stop()
    else:
        registry.failing = {"503": 503, "401": 401}.get(how, 404)
    reading = asyncio.create_task(read(reader, avro()))
    async with asyncio.timeout(30):
        await _until(reader, has_trouble=True)
    assert not reading.done()
    assert reader.trouble is not None
    assert reader.trouble.startswith("schema registry: ")
    if how == "nobody answers":
        registry.start()
    registry.failing = None
    async with asyncio.timeout(30):
        assert (await reading)["number"] == "48121"
    assert reader.trouble is None


def contract(form: str) -> Contract:
    return Contract.model_validate(
        {
            "contract": 1,
            "source": "erpos",
            "format": form,
            "kinds": [{"type": "sale"}],
            "fields": {
                "store": {"value": "S1"},
                "register": {"value": "R1"},
                "receipt": "number",
                "occurred_at": "at",
                "currency": {"value": "EUR"},
                "totals.gross": "gross",
            },
            "lines": [
                {
                    "each": "@",
                    "fields": {
                        "sku": {"value": "A"},
                        "quantity": {"value": "1"},
                        "unit_price": "gross",
                        "tax_rate": {"value": "0"},
                    },
                }
            ],
        }
    )


async def test_batch_waits_for_the_registry_and_nothing_is_dead_lettered(registry: RegistryServer) -> None:
    line = Line()
    reader = opened(registry)
    line.services.source = Source(contract("avro"), lambda _: None, reader)
    registry.stop()
    records = [FakeRecord(0, avro()), FakeRecord(1, b"{}"), FakeRecord(2, None)]
    work = asyncio.create_task(process(Batch("t", 0, records), line.services))
    async with asyncio.timeout(30):
        await _until(reader, has_trouble=True)
        assert line.services.source.trouble == reader.trouble
        assert not line.letters
        registry.start()
        settled = await work
    assert [arrival.event.totals["gross"] for arrival in settled.delivered] == ["12.30"]
    assert [rejection.reason for rejection in settled.rejected] == [Reason.NO_SCHEMA_ID]


async def test_credentials_are_sent_and_never_shown(registry: RegistryServer, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3:cret\n")
    settings = SchemaRegistry(url=registry.url, username="till", password_file=secret)
    await read(RegistryReader(settings, "avro", QUICK), avro())
    assert registry.authorization == "Basic dGlsbDpzMzpjcmV0"
    assert "s3:cret" not in repr(SchemaRegistry(url=registry.url, username="till", password="s3:cret"))


CONTRACT_FILE = """
contract: 1
source: erpos
format: avro
kinds: [{type: sale}]
"""


def test_missing_registry_setting_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text(CONTRACT_FILE)
    with pytest.raises(ContractError, match=r"contract.yaml: format avro needs .* set schema_registry.url"):
        find_source(Settings(contract=str(path)))


def test_contract_that_needs_a_registry_gets_it(tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text(CONTRACT_FILE)
    settings = Settings(contract=str(path), schema_registry=SchemaRegistry(url="http://127.0.0.1:1"))
    source = find_source(settings)
    assert source is not None
    assert source.trouble is None


@cache
def readers() -> dict[str, RegistryReader]:
    """That know schemas 1 and 5; their registry is gone."""
    with running_registry() as server:
        server.put(1, RECEIPT)
        server.put(5, PRICED, "JSON")
        both = {"avro": opened(server, "avro"), "json_schema": opened(server, "json_schema")}
        for reader in both.values():
            asyncio.run(reader.prepare([FakeRecord(0, b"\0\0\0\0\1"), FakeRecord(0, b"\0\0\0\0\5")]))
        return both


prefixes = st.sampled_from([b"", b"\0\0\0\0\1", b"\0\0\0\0\5"])


@given(st.binary(max_size=60), st.sampled_from(["avro", "json_schema"]), prefixes)
def test_any_bytes_are_a_tree_or_unreadable(raw: bytes, form: str, prefix: bytes) -> None:
    with suppress(UnreadableRecord):
        json.dumps(readers()[form].read(FakeRecord(0, prefix + raw)))


@given(st.binary(max_size=4), st.integers(0, 90))
def test_any_damage_is_a_tree_or_unreadable(damage: bytes, place: int) -> None:
    raw = avro()
    with suppress(UnreadableRecord):
        json.dumps(readers()["avro"].read(FakeRecord(0, raw[:place] + damage + raw[place + len(damage) :])))


NODE = {"type": "record", "name": "Node", "namespace": "n", "fields": [{"name": "next", "type": ["null", "n.Node"]}]}


@pytest.mark.parametrize(
    ("schema", "detail"),
    [
        (NODE, "is_recursive"),
        ({"type": "array", "items": NODE}, "is_recursive"),
        ({"type": "record", "name": "Broken"}, "is_no_avro_schema"),
        ({"type": "array", "items": "null"}, "has_items_without_bytes"),
        ({"type": "map", "values": {"type": "array", "items": {"type": "null"}}}, "has_items_without_bytes"),
        (
            {"type": "array", "items": {"type": "record", "name": "E", "fields": [{"name": "a", "type": "null"}]}},
            "has_items_without_bytes",
        ),
    ],
)
async def test_schema_by_which_few_bytes_bring_a_worker_down_is_refused(
    registry: RegistryServer, schema: Any, detail: str
) -> None:
    registry.put(6, schema)
    raw = b"\0\0\0\0\6" + b"\2" * 5_000_000
    assert await refused(opened(registry), raw) == (Reason.UNKNOWN_SCHEMA, f"schema 6: {detail}")


@pytest.mark.parametrize(
    ("schema", "detail"),
    [
        ({"$ref": "http://127.0.0.1:1/other.json"}, "schema 6: refers_to_another_address"),
        ({"properties": {"a": {"items": [{"$ref": "https://h/x#/y"}]}}}, "schema 6: refers_to_another_address"),
        ({"$id": "https://h/x", "properties": {"a": {"$ref": "https://h/x#/$defs/a"}}, "$defs": {"a": {}}}, None),
        ({"$ref": "#/$defs/a", "$defs": {"a": {}}}, None),
    ],
)
async def test_json_schema_that_refers_to_another_address_is_refused(
    registry: RegistryServer, schema: Any, detail: str | None
) -> None:
    registry.put(6, schema, "JSON")
    raw = b'\0\0\0\0\6{"a": 1}'
    if detail is None:
        assert await read(opened(registry, "json_schema"), raw) == {"a": 1}
    else:
        assert await refused(opened(registry, "json_schema"), raw) == (Reason.UNKNOWN_SCHEMA, detail)


async def test_recursion_by_way_of_a_reference_is_refused(registry: RegistryServer) -> None:
    registry.put(3, NODE)
    registry.put_version("node", 1, 3)
    tree = {"type": "record", "name": "Tree", "fields": [{"name": "root", "type": "n.Node"}]}
    registry.put(4, tree, references=[{"name": "n.Node", "subject": "node", "version": 1}])
    assert (await refused(opened(registry), b"\0\0\0\0\4\0"))[1] == "schema 4: is_recursive"


async def test_type_that_is_used_twice_is_not_recursive(registry: RegistryServer) -> None:
    money = {"type": "record", "name": "M", "fields": [{"name": "cents", "type": "long"}]}
    both = {"type": "record", "name": "R", "fields": [{"name": "a", "type": money}, {"name": "M", "type": "M"}]}
    registry.put(6, both)
    assert await read(opened(registry), b"\0\0\0\0\6\2\4") == {"a": {"cents": 1}, "M": {"cents": 2}}
