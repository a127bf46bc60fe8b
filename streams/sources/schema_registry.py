"""Records in Confluent's wire format: Avro, or JSON with a JSON Schema, with schemas from a Schema Registry.

A record begins with its schema id (a zero byte and four bytes), or carries it in the header `__value_schema_id`. The
schemas that a batch needs are fetched before it is decoded (`prepare`), each once; decoding then does no I/O. If the
registry is unavailable, or gives any answer other than "not found", the reader keeps retrying: only an id that the
registry does not know makes the record a dead letter.

In the tree of an Avro record, decimals are exact text and are refused beyond their schema's precision; times are ISO
8601 text, floating point numbers their shortest text, and bytes without a logical type base64 text. Rules in schemas
(encryption, migration) are not run. Recursive Avro schemas are refused: the reader recurses on the C stack, so one
deeply nested record would crash the process.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any, Literal
from uuid import UUID

import structlog
from confluent_kafka.schema_registry import SchemaRegistryClient, SchemaRegistryError, dual_schema_id_deserializer
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from fastavro.read import LOGICAL_READERS
from jsonschema import ValidationError

from schemas.dead_letter import Reason
from streams.batch import Record
from streams.settings import SchemaRegistry
from streams.sink_retry import BackOff
from streams.sources.formats import UnreadableRecord, parse_json
from streams.sources.safe_schemas import WrittenNumber, WrongDecimal, exact_decimal, hazard, remote_reference, tree

HEADER = "__value_schema_id"
#: Seconds before the registry is asked again for an id that it did not know.
RETRY_UNKNOWN_AFTER = 60.0
#: The registry's codes for a missing subject, version or schema. An HTTP 404 alone may mean a wrong URL.
NOT_FOUND_CODES = (40401, 40402, 40403)
#: How many unknown ids are remembered. There must be a limit, because random bytes look like ids.
MAX_UNKNOWN_IDS = 10_000
_TYPES = {"avro": "AVRO", "json_schema": "JSON"}


class RegistryReader:
    """Reader for records of one format. `trouble` describes the outage while the reader waits for the registry."""

    def __init__(
        self,
        settings: SchemaRegistry,
        schema_format: Literal["avro", "json_schema"],
        back_off: BackOff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._type = _TYPES[schema_format]
        self._client = SchemaRegistryClient(client_config(settings))
        self._fetched = _CachedRegistry()
        self._hazards: dict[bytes, str | None] = {}
        self._unknown: dict[bytes, float] = {}
        self._back_off = back_off or BackOff()
        self._clock = clock
        self._log = structlog.get_logger("tillstream.registry")
        self.trouble: str | None = None
        config = {"subject.name.strategy": lambda *_: None, "schema.id.deserializer": _payload}
        if schema_format == "avro":
            for kind in ("bytes-decimal", "fixed-decimal"):
                LOGICAL_READERS[kind] = exact_decimal  # the library's own reader rounds, and has no limit on length
            self._deserialize: Any = AvroDeserializer(self._fetched, conf=config)
        else:
            self._deserialize = JSONDeserializer(
                None, schema_registry_client=self._fetched, conf=config, json_decode=_parse_json_exactly
            )

    async def prepare(self, records: Sequence[Record]) -> None:
        """Fetch the records' schemas that are not cached yet; wait as long as the registry is unavailable."""
        now = self._clock()
        for key in dict.fromkeys(_key(record) for record in records):
            if (
                key is None
                or key in self._fetched.schemas
                or now - self._unknown.get(key, -RETRY_UNKNOWN_AFTER) < RETRY_UNKNOWN_AFTER
            ):
                continue
            await self._fetch_with_retries(key)

    async def _fetch_with_retries(self, key: bytes) -> None:
        attempt = 0
        while True:
            try:
                await asyncio.to_thread(self._fetch, key)
            # Any error here comes from the registry: no record is parsed in this call.
            except Exception as error:
                if isinstance(error, SchemaRegistryError) and error.error_code in NOT_FOUND_CODES:
                    if len(self._unknown) >= MAX_UNKNOWN_IDS:
                        self._unknown.clear()
                    self._unknown[key] = self._clock()
                    break
                attempt += 1
                self._report_outage(error, attempt)
                await asyncio.sleep(self._back_off.wait(attempt))
            else:
                self._unknown.pop(key, None)
                break
        if self.trouble is not None:
            self.trouble = None
            self._log.info("schema registry available again")

    def _report_outage(self, error: Exception, attempt: int) -> None:
        status = f" HTTP {error.http_status_code}" if isinstance(error, SchemaRegistryError) else ""
        if self.trouble is None:
            self._log.warning(
                "schema registry unavailable, waiting", error=type(error).__name__ + status, attempt=attempt
            )
        self.trouble = f"schema registry: {type(error).__name__}{status}"

    def _fetch(self, key: bytes) -> None:
        if key[0] == 0:
            schema = self._client.get_schema(int.from_bytes(key[1:]))
        else:
            schema = self._client.get_schema_by_guid(str(UUID(bytes=key[1:])))
        self._fetch_references(schema)
        if self._type == (schema.schema_type or "AVRO"):
            text = schema.schema_str or ""
            if self._type == "AVRO":
                referenced = [version.schema.schema_str or "" for version in self._fetched.versions.values()]
                self._hazards[key] = hazard(text, referenced)
            else:
                self._hazards[key] = remote_reference(
                    text, [str(reference.name) for reference in schema.references or ()]
                )
        self._fetched.schemas[key] = schema

    def _fetch_references(self, schema: Any) -> None:
        for reference in schema.references or ():
            subject_version = (reference.subject, reference.version)
            if subject_version not in self._fetched.versions:
                version = self._client.get_version(*subject_version, True)  # including deleted versions
                self._fetch_references(version.schema)
                self._fetched.versions[subject_version] = version

    def read(self, record: Record) -> Any:
        """Return the record's tree. Call `prepare` first, which fetches its schema. Raises UnreadableRecord."""
        key = _key(record)
        if key is None:
            raise UnreadableRecord(Reason.NO_SCHEMA_ID, f"(the whole value): {_looks_like(record.value or b'')}")
        name = f"schema {int.from_bytes(key[1:])}" if key[0] == 0 else f"schema {UUID(bytes=key[1:])}"
        schema = self._fetched.schemas.get(key)
        if schema is None:
            raise UnreadableRecord(Reason.UNKNOWN_SCHEMA, f"{name}: not_in_the_registry")
        if (schema.schema_type or "AVRO") != self._type:
            raise UnreadableRecord(Reason.UNKNOWN_SCHEMA, f"{name}: is_{str(schema.schema_type).lower()}")
        if self._hazards.get(key) is not None:
            raise UnreadableRecord(Reason.UNKNOWN_SCHEMA, f"{name}: {self._hazards[key]}")
        context = _PayloadContext(record)
        try:
            value = self._deserialize(record.value, context)
            if context.payload.read(1):
                raise UnreadableRecord(self._invalid, "(the whole value): bytes_after_the_end")
            return tree(value)
        except UnreadableRecord:
            raise
        except WrongDecimal as fault:
            raise UnreadableRecord(self._invalid, f"(a decimal): {fault}") from None
        # On malformed bytes the library raises all kinds of errors: EOFError, IndexError, UnicodeDecodeError, ….
        except Exception as error:
            raise self._unreadable(error) from None

    @property
    def _invalid(self) -> Reason:
        return Reason.INVALID_AVRO if self._type == "AVRO" else Reason.INVALID_JSON

    def _unreadable(self, error: Exception) -> UnreadableRecord:
        cause = error.__context__
        if isinstance(cause, ValidationError):  # its message contains values, its schema path does not
            path = ".".join(map(str, cause.absolute_schema_path))
            return UnreadableRecord(Reason.SCHEMA_MISMATCH, path[:200])
        return UnreadableRecord(self._invalid, f"(the whole value): {type(error).__name__}")


def client_config(settings: SchemaRegistry) -> dict[str, Any]:
    """Translate the settings for Confluent's client. It doesn't retry: `RegistryReader` does, and reports that."""
    config: dict[str, Any] = {"url": settings.url, "timeout": 10, "max.retries": 0}
    if settings.username:
        config["basic.auth.user.info"] = f"{settings.username}:{settings.secret()}"
    if settings.ca_file is not None:
        config["ssl.ca.location"] = str(settings.ca_file)
    return config


class _CachedRegistry:
    """The fetched schemas behind the interface of a registry client, so that deserializers do no I/O."""

    def __init__(self) -> None:
        self.schemas: dict[bytes, Any] = {}
        self.versions: dict[tuple[str, int], Any] = {}

    def config(self) -> dict[str, Any]:
        return {}

    def get_schema(self, schema_id: int, *_: Any) -> Any:
        return self.schemas[b"\0" + schema_id.to_bytes(4)]

    def get_schema_by_guid(self, guid: str, *_: Any) -> Any:
        return self.schemas[b"\1" + UUID(guid).bytes]

    def get_version(self, subject: str, version: int, *_: Any) -> Any:
        return self.versions[subject, version]


class _PayloadContext(SerializationContext):
    """The context of one record; keeps the payload, to check that it was read to the end."""

    def __init__(self, record: Record) -> None:
        mark = next((value for name, value in record.headers if name == HEADER), None)
        super().__init__("", MessageField.VALUE, {HEADER: mark})
        self.payload = BytesIO()


def _payload(value: bytes, context: Any, schema_id: Any) -> BytesIO:
    payload: BytesIO = dual_schema_id_deserializer(value, context, schema_id)
    context.payload = payload
    return payload


def _key(record: Record) -> bytes | None:
    """Return the prefix that identifies the schema: 0 and a four-byte id, or 1 and a sixteen-byte GUID."""
    value = next((value for name, value in record.headers if name == HEADER), None) or record.value or b""
    if len(value) >= 5 and value[0] == 0:
        return value[:5]
    return value[:17] if len(value) >= 17 and value[0] == 1 else None


def _looks_like(value: bytes) -> str:
    if value[:4] == b"Obj\1":
        return "avro_container_file"
    if value[:2] == b"\xc3\1":
        return "avro_single_object_encoding"
    if value.lstrip()[:1] in (b"{", b"["):
        return "json_without_schema_id"
    return "no_magic_byte (plain Avro?)" if value else "empty"


def _written_number(text: str) -> WrittenNumber:
    number = WrittenNumber(text)
    if number in (float("inf"), float("-inf")):
        raise UnreadableRecord(Reason.INVALID_JSON, "number_out_of_range")
    return number


def _parse_json_exactly(value: bytes) -> Any:
    return parse_json(value, _written_number)
