"""Without a contract the source of a topic is the canonical one, with the interface of any other."""

import asyncio

import pytest

from schemas.dead_letter import Reason
from streams.assembly import find_source
from streams.mapping.mapper import IdentityMapper
from streams.pipeline import versions
from streams.settings import Settings
from streams.sources.canonical import CANONICAL
from streams.sources.source import RefusedRecord
from tests.support.events import FakeRecord, event, value
from tests.support.mapping import ANY_STORE, table_mapper


def test_settings_without_a_contract_have_the_canonical_source() -> None:
    assert find_source(Settings()) is CANONICAL


def test_canonical_source_waits_for_nothing_and_reads_json() -> None:
    record = FakeRecord(0, value(1))
    asyncio.run(CANONICAL.prepare([record]))
    assert CANONICAL.trouble is None
    assert CANONICAL.read(record)["receipt"] == "1"


def test_identity_has_the_fields_that_the_event_states() -> None:
    assert CANONICAL.identities(FakeRecord(0, value(7)), ("store", "receipt", "revision")) == [
        {name: str(part) for name, part in event(7).items() if name in ("store", "receipt", "revision")}
    ]


@pytest.mark.parametrize(
    ("raw", "reason"), [(b"{", Reason.INVALID_JSON), (b"[]", Reason.SCHEMA_MISMATCH), (None, Reason.INVALID_JSON)]
)
def test_record_that_is_not_an_object_has_no_identity(raw: bytes | None, reason: Reason) -> None:
    with pytest.raises(RefusedRecord) as refused:
        CANONICAL.identities(FakeRecord(0, raw), ("store",))
    assert refused.value.reason is reason


def test_versions_name_the_canonical_source_only_next_to_a_mapping() -> None:
    assert versions(CANONICAL, IdentityMapper(ANY_STORE)) == ""
    assert versions(CANONICAL, table_mapper(version="3")) == "canonical test@3"
