"""Settings: where they come from, which are refused, and that secrets stay secret."""

from datetime import time
from pathlib import Path

import pytest

from schemas.store import Store, Stores
from streams.kafka.topics import client_config
from streams.settings import SettingsError, load_settings


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str) -> Path:
    path = Path("shop.yaml")
    path.write_text(text)
    return path


def test_defaults_work_on_one_machine() -> None:
    settings = load_settings()
    assert (settings.broker, settings.sink_url) == ("127.0.0.1:9092", "sqlite:///tillstream.sqlite")


def test_command_line_beats_environment_beats_file(monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("topic: file\ngroup: file\nbroker: file:1\n")
    monkeypatch.setenv("TILLSTREAM_GROUP", "environment")
    monkeypatch.setenv("TILLSTREAM_BROKER", "environment:1")
    settings = load_settings(path, broker="line:1")
    assert (settings.topic, settings.group, settings.broker) == ("file", "environment", "line:1")


def test_file_in_the_folder_is_found() -> None:
    Path("tillstream.yaml").write_text("topic: here\n")
    assert load_settings().topic == "here"


def test_stores_have_zone_and_cutoff() -> None:
    path = write("stores:\n  S1: {timezone: Europe/Berlin, cutoff: '04:00'}\ndefault_store: null\n")
    stores = load_settings(path).find_stores()
    assert stores.find("S1") == Store(timezone="Europe/Berlin", cutoff=time(4))
    assert stores.find("S2") is None


def test_unlisted_store_gets_the_default() -> None:
    assert Stores({}, Store()).find("S9") == Store()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("brokre: x:1\n", "brokre: Extra inputs are not permitted"),
        ("window_hours: -1\n", "window_hours: Input should be greater than 0"),
        ("stores: {S1: {timezone: Berlin}}\n", "stores.S1.timezone: Value error, 'Berlin' is not a time zone"),
        ("sink_url: postgresql://erp:secret@db/erp\n", "sink_url contains a password"),
        ("kafka: {protocol: SASL_SSL}\n", "needs kafka.username"),
        ("tracing: {endpoint: 'http://u:secret@c/v1/traces'}\n", "endpoint contains a user"),
        ("tracing: {endpoint: 'collector:4317'}\n", "tracing.endpoint: String should match pattern"),
        ("tracing: {ratio: 0.5}\n", "tracing.endpoint: Field required"),
        ("schema_registry: {url: 'http://u:secret@r'}\n", "url contains a user"),
        ("schema_registry: {url: r:8081}\n", "schema_registry.url: String should match pattern"),
        ("schema_registry: {url: 'http://r', ca_file: none.pem}\n", "ca_file: none.pem is no file"),
        ("topic: [\n", "not valid YAML"),
        ("- topic\n", "settings are `name: value` pairs, not a list"),
        ("topic: ''\n", "topic: String should have at least 1 character"),
        ("dead_letter_topic: pos.sales\n", "dead_letter_topic and topic are the same"),
        ("sink_url: postgresql://erp:se/cret@db/erp\n", "sink_url contains a password"),
        ("sink_url: postgresql://db/erp?password=secret\n", "sink_url contains a password"),
        ("stores: {S1: {opening_hours: 8-20}}\n", "stores.S1.opening_hours: Value error, '8-20' are no hours"),
        ("stores: {S1: {cutoff: 4:00}}\n", "a cut-off is hours and minutes of store time, in quotes"),
        ("stores: {S1: {cutoff: '04:00Z'}}\n", "a cut-off is hours and minutes of store time, in quotes"),
        ("kafka: {protocol: SSL, ca_file: no.pem}\n", "ca_file: no.pem is no file"),
    ],
)
def test_wrong_setting_is_said_with_its_place_and_no_secret(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(write(text))
    assert said in str(caught.value)
    assert "shop.yaml" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_file_that_is_no_text_is_said() -> None:
    Path("shop.yaml").write_bytes(b"topic: \xff\n")
    with pytest.raises(SettingsError, match=r"shop\.yaml: not UTF-8 text"):
        load_settings(Path("shop.yaml"))


def test_nonsense_in_the_environment_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILLSTREAM_STORES", "{bad")
    with pytest.raises(SettingsError, match="wrong settings in the environment"):
        load_settings()


def test_missing_file_is_said() -> None:
    with pytest.raises(SettingsError, match=r"no\.yaml: no such settings file"):
        load_settings(Path("no.yaml"))


def test_secrets_are_read_from_files_and_never_shown() -> None:
    Path("secret").write_text("hunter2\n")
    Path("ca.pem").touch()
    settings = load_settings(
        write(
            "sink_password_file: secret\n"
            "kafka: {protocol: SASL_SSL, username: tillstream, password_file: secret, ca_file: ca.pem}\n"
        )
    )
    assert settings.password() == "hunter2"
    config = client_config(settings.kafka_access)
    assert config["sasl.password"] == "hunter2"
    assert (config["security.protocol"], config["ssl.ca.location"]) == ("SASL_SSL", "ca.pem")
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_secret_of_the_environment_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILLSTREAM_SINK_PASSWORD", "hunter2")
    settings = load_settings()
    assert settings.password() == "hunter2"
    assert "hunter2" not in repr(settings)


def test_missing_secret_file_is_said() -> None:
    with pytest.raises(SettingsError, match="secret file nowhere: No such file"):
        load_settings(write("sink_password_file: nowhere\n")).password()


def test_topics_and_access_are_parts_of_the_settings() -> None:
    settings = load_settings(
        broker="k:9092", topic="sales", group="shop", window="seen", partitions=7, create_topics=False
    )
    assert settings.kafka_access == ("k:9092", settings.kafka)
    plan = settings.topic_plan
    assert plan.names == ("sales", "pos.sales.dlq", "sales.parked", "pos.sales.dlq.audit", "shop-seen-changelog")
    assert (plan.create, plan.partitions) == (False, 7)
