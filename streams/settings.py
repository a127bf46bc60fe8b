"""All settings, from `tillstream.yaml`, overridable one by one by `TILLSTREAM_…` in the environment.

Secrets come from the environment or from files (`sink_password_file`), never from URLs or command lines, and show as
stars wherever settings are printed.
"""

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

import yaml
from cronsim import CronSim, CronSimError
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource
from pydantic_settings import SettingsError as SourceError

from schemas.dead_letter import Reason
from schemas.store import Store, Stores, TimeZone


class KafkaSecurity(BaseModel):
    """TLS and SASL, passed through to both Kafka clients."""

    model_config = ConfigDict(extra="forbid")

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str = ""
    password: SecretStr = SecretStr("")
    password_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> "KafkaSecurity":
        if self.protocol.startswith("SASL") and not self.username:
            raise ValueError(f"protocol {self.protocol} needs kafka.username and kafka.password")
        return self

    @model_validator(mode="after")
    def _files_exist(self) -> "KafkaSecurity":
        for name in ("ca_file", "certificate_file", "key_file"):
            file = getattr(self, name)
            if file is not None and not file.is_file():
                raise ValueError(f"{name}: {file} is no file")
        return self

    def secret(self) -> str:
        """Return the password, from the settings or its file."""
        return _secret(self.password, self.password_file) or ""


class KafkaAccess(NamedTuple):
    """How clients connect to Kafka: the brokers' addresses, comma separated, and TLS and SASL."""

    servers: str
    security: KafkaSecurity


class TopicNames(NamedTuple):
    """The names of the topics that Tillstream uses; `changelog` is Faust's, of the dedupe window."""

    source: str
    dead_letters: str
    parked: str
    audit: str
    changelog: str


class TopicPlan(NamedTuple):
    """The topics that Tillstream uses, and how it creates missing ones (not at all, unless `create`)."""

    names: TopicNames
    create: bool
    partitions: int
    replication_factor: int
    max_record_bytes: int
    window_hours: float


class SchemaRegistry(BaseModel):
    """The schema registry of Avro and JSON Schema records."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[
        str, Field(pattern="^https?://", description="one, or several that stand for one another, with commas")
    ]
    username: str = ""
    password: SecretStr = SecretStr("")
    password_file: Path | None = None
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _usable(self) -> "SchemaRegistry":
        if re.search(r"://[^/?,]*@", self.url):
            raise ValueError("url contains a user; use username, and password or password_file")
        if self.ca_file is not None and not self.ca_file.is_file():
            raise ValueError(f"ca_file: {self.ca_file} is no file")
        return self

    def secret(self) -> str:
        """Return the password, from the settings or its file."""
        return _secret(self.password, self.password_file) or ""


class TracingSettings(BaseModel):
    """The collector of traces. `headers` are sent to it: `authorization=Bearer …`, separated by commas."""

    model_config = ConfigDict(extra="forbid")

    endpoint: Annotated[
        str,
        Field(pattern="^https?://", description="of OTLP over HTTP, with its path: http://127.0.0.1:4318/v1/traces"),
    ]
    ratio: Annotated[
        float,
        Field(ge=0, le=1, description="of the batches without a record whose sender was sampled, the share traced"),
    ] = 0.01
    headers: SecretStr = SecretStr("")
    headers_file: Path | None = None
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _usable(self) -> "TracingSettings":
        if re.search(r"://[^/?]*@", self.endpoint):
            raise ValueError("endpoint contains a user; put `authorization=…` into headers, or headers_file")
        if self.ca_file is not None and not self.ca_file.is_file():
            raise ValueError(f"ca_file: {self.ca_file} is no file")
        return self

    def secret(self) -> str:
        """Return the headers, from the settings or their file."""
        return _secret(self.headers, self.headers_file) or ""


class RejectionBudget(BaseModel):
    """How many rejections are too many: a bad deploy must not drain the topic into the dead-letter topic."""

    model_config = ConfigDict(extra="forbid")

    ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    sample: Annotated[int, Field(ge=10)] = 1000
    in_a_row: (
        Annotated[int, Field(ge=10, description="so many rejections without a record between that is none")] | None
    ) = 250


class RetrySettings(BaseModel):
    """Dead letters that heal with time go through the line again by themselves: after `first_seconds`, then after
    pauses that double, until they are `for_minutes` old."""

    model_config = ConfigDict(extra="forbid")

    first_seconds: Annotated[float, Field(ge=1)] = 60
    for_minutes: Annotated[float, Field(gt=0, le=43_200)] = 1440

    @property
    def patience(self) -> tuple[timedelta, timedelta]:
        """The first pause, and how old a letter is tried at most."""
        return timedelta(seconds=self.first_seconds), timedelta(minutes=self.for_minutes)


class WatchdogSettings(BaseModel):
    """When a worker takes itself for stalled: it is unready at once, and ends itself when it is so for `grace_seconds`.

    Waiting for a sink or a broker that is away is no stall, however long it takes.
    """

    model_config = ConfigDict(extra="forbid")

    loop_seconds: Annotated[
        float, Field(gt=0, description="the worker is stalled if its event loop does not run for this time")
    ] = 30
    batch_seconds: Annotated[
        float, Field(gt=0, description="or if a batch takes longer: more than the sink's own time-outs")
    ] = 120
    progress_seconds: Annotated[
        float, Field(gt=0, description="or if records wait and none is settled for this time")
    ] = 300
    grace_seconds: Annotated[float, Field(ge=0, description="a worker that recovers within this time goes on")] = 15


class ReconciliationSettings(BaseModel):
    """Which business days a schedule reconciles: today, the `days` before, and all since the earliest that is not
    settled yet or has late records. `deep` compares digests of every field from the tills, not sums alone.
    With `allow_open` a run is `done` although not everything is booked, or can be proved.
    """

    model_config = ConfigDict(extra="forbid")

    days: Annotated[int, Field(ge=0, le=3660)] = 7
    deep: bool = True
    allow_open: bool = False


class ScheduleSettings(BaseModel):
    """A job at the times of a cron expression, in a time zone: an import of files, of a watched folder or of a query;
    or a reconciliation of tills and ERP.

    `missed` and `overlap` control due times that passed while no scheduler was running, or while the previous run was
    still going: one run for all of them, or none.
    """

    model_config = ConfigDict(extra="forbid")

    cron: Annotated[str, Field(description="minute, hour, day, month, weekday (0 and 7: Sunday), as Debian's cron")]
    timezone: TimeZone = "UTC"
    files: list[str] = []
    folder: Annotated[Path | None, Field(description="its files go to its folders done and failed")] = None
    sql: Annotated[str | None, Field(description="a database's URL, without password")] = None
    query: str | None = None
    password_file: Path | None = None
    contract: Annotated[str | None, Field(description="without it, the one of the settings")] = None
    topic: str | None = None
    encoding: str | None = None
    sheet: Annotated[str | None, Field(description="of workbooks; without it, the first one")] = None
    reconcile: ReconciliationSettings | None = None
    missed: Literal["once", "skip"] = "once"
    overlap: Literal["once", "skip"] = "skip"
    jitter_seconds: Annotated[float, Field(ge=0, le=3600, description="random delay, up to this many seconds")] = 0

    @model_validator(mode="after")
    def _complete(self) -> "ScheduleSettings":
        try:
            CronSim(self.cron, datetime.now(ZoneInfo(self.timezone)))
        except CronSimError as error:
            raise ValueError(f"cron: {self.cron!r}: {error}") from None
        if (self.sql is None) != (self.query is None):
            raise ValueError("sql and query belong together")
        if sum(map(bool, (self.files, self.folder, self.sql, self.reconcile))) != 1:
            raise ValueError("name either files, or a folder, or sql and query, or reconcile")
        if self.reconcile is not None and (self.contract or self.topic or self.encoding or self.sheet):
            raise ValueError("reconcile goes by the contract and the topic of the settings: leave those out here")
        if self.sql is not None and re.search(r"://[^/@?]*:.*@", self.sql):
            raise ValueError("sql contains a password; put it into a file, and name that in password_file")
        return self


class Settings(BaseSettings):
    """A worker's settings. Every field has a default that works on one machine."""

    model_config = SettingsConfigDict(env_prefix="TILLSTREAM_", env_nested_delimiter="__", extra="forbid")

    broker: str = Field("127.0.0.1:9092", description="host:port of one or more brokers, comma separated")
    kafka: KafkaSecurity = KafkaSecurity()
    topic: Annotated[str, Field(min_length=1)] = "pos.sales"
    dead_letter_topic: Annotated[str, Field(min_length=1)] = "pos.sales.dlq"
    parked_topic: str = Field(
        "", description="dead letters that failed too often, or were parked by hand; without it, TOPIC.parked"
    )
    audit_topic: str = Field(
        "",
        description="actions on dead letters, their operators and outcomes; without it, DEAD_LETTER_TOPIC.audit",
    )
    most_attempts: Annotated[
        int, Field(ge=1, description="a dead letter that has failed this often is parked when it fails again")
    ] = 20
    retries: Annotated[
        dict[Reason, RetrySettings],
        Field(description="reasons whose dead letters the worker retries by itself, such as unmapped_item"),
    ] = {}
    reveal_personal: bool = Field(False, description="whether `dlq show` and `dlq export` may show personal data")
    group: Annotated[
        str, Field(min_length=1, description="consumer group; a worker for another sink needs another group")
    ] = "tillstream"
    window: Annotated[
        str,
        Field(
            pattern=r"^[a-zA-Z0-9_.]+$", description="name of the dedupe window; another name starts with an empty one"
        ),
    ] = "seen"
    contract: str | None = Field(
        None, description="the records' format: a contract file, or a built-in contract; without it, canonical JSON"
    )
    schema_registry: SchemaRegistry | None = Field(None, description="for contracts of format avro and json_schema")
    mapping: Path | None = Field(
        None, description="the ERP's codes and the cleaning rules: a mapping file; without it, codes map to themselves"
    )
    certificate_key: SecretStr | None = Field(
        None, description="the private key (Ed25519, PEM) that signs certificates of store-days"
    )
    certificate_key_file: Path | None = None
    create_topics: bool = Field(True, description="create the dead-letter and changelog topics when they are missing")
    replication_factor: Annotated[int, Field(ge=1)] = 1
    partitions: Annotated[
        int, Field(ge=1, description="of the source topic if it is created; at most this many workers can share it")
    ] = 4

    sink_url: str = "sqlite:///tillstream.sqlite"
    sink_password: SecretStr | None = None
    sink_password_file: Path | None = None
    apply_migrations: bool = Field(False, description="bring the sink's schema up to date at start")

    stores: dict[str, Store] = {}
    default_store: Store | None = Store()

    window_hours: Annotated[float, Field(gt=0, le=24 * 31)] = 24
    session_seconds: Annotated[
        float, Field(ge=1, le=300, description="a worker that dies loses its partitions after this time")
    ] = 10
    slice_records: Annotated[int, Field(ge=1, description="most records of one partition handled together")] = 2000
    max_record_bytes: Annotated[int, Field(ge=1024)] = 16 * 2**20
    dead_letter_budget: RejectionBudget = RejectionBudget()
    watchdog: WatchdogSettings = WatchdogSettings()
    drain_seconds: Annotated[float, Field(gt=0)] = 20

    tracing: TracingSettings | None = Field(
        None, description="without it nothing is traced, and nothing of OpenTelemetry loaded"
    )

    data_folder: Path = Field(
        Path("tillstream-data"), description="folder of the progress of imports and the history of schedules"
    )

    schedules: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]+$")], ScheduleSettings],
        Field(description="imports and reconciliations that `tillstream schedule run` keeps"),
    ] = {}
    schedules_port: Annotated[
        int, Field(ge=0, lt=2**16, description="where `tillstream schedule run` serves /metrics, at http_host; 0: any")
    ] = 9463

    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, lt=2**16, description="0: any free one")] = 9464
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _beside_their_topics(self) -> "Settings":
        self.parked_topic = self.parked_topic or f"{self.topic}.parked"
        self.audit_topic = self.audit_topic or f"{self.dead_letter_topic}.audit"
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if re.search(r"://[^/@?]*:.*@", self.sink_url) or re.search(r"[?&]password=", self.sink_url):
            raise ValueError("sink_url contains a password; put it into TILLSTREAM_SINK_PASSWORD or sink_password_file")
        names = ("topic", "dead_letter_topic", "parked_topic", "audit_topic")
        for place, name in enumerate(names):
            for other in names[:place]:
                if getattr(self, name) == getattr(self, other):
                    raise ValueError(f"{name} and {other} are the same")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Strongest first: arguments (the command line), the environment, the file."""
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)

    @property
    def kafka_access(self) -> KafkaAccess:
        """How clients connect to Kafka."""
        return KafkaAccess(self.broker, self.kafka)

    @property
    def topic_plan(self) -> TopicPlan:
        """The topics, and how missing ones are created."""
        changelog = f"{self.group}-{self.window}-changelog"  # the name that Faust gives it
        return TopicPlan(
            TopicNames(self.topic, self.dead_letter_topic, self.parked_topic, self.audit_topic, changelog),
            self.create_topics,
            self.partitions,
            self.replication_factor,
            self.max_record_bytes,
            self.window_hours,
        )

    def password(self) -> str | None:
        """Return the sink's password, or None."""
        return _secret(self.sink_password, self.sink_password_file)

    def certificate_secret(self) -> str | None:
        """Return the private key that signs certificates, or None."""
        return _secret(self.certificate_key, self.certificate_key_file)

    def find_stores(self) -> Stores:
        """Return the stores these settings know."""
        return Stores(self.stores, self.default_store)


class SettingsError(Exception):
    """The settings can't be used; the message says what, where and what to do."""


def load_settings(path: Path | None = None, **overrides: Any) -> Settings:
    """Load settings from `path` (default: `tillstream.yaml` if there is one), the environment and `overrides`.

    Raises SettingsError with one line per fault.
    """
    if path is None and Path("tillstream.yaml").exists():
        path = Path("tillstream.yaml")
    if path is not None and not path.is_file():
        raise SettingsError(f"{path}: no such settings file")

    if path is not None:
        _check_file(path)

    class Configured(Settings):
        model_config = SettingsConfigDict(yaml_file=path)

    try:
        return Configured(**overrides)
    except ValidationError as error:
        raise SettingsError(_explain(error, path)) from None
    except SourceError as error:
        raise SettingsError(f"wrong settings in the environment: {error}; nested ones are JSON") from None


def _check_file(path: Path) -> None:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not UTF-8 text") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not valid YAML: {error}") from None
    except (ValueError, LookupError, TypeError, AttributeError):  # what PyYAML says of 2026-02-30, 0x_ or `!!int x`
        raise SettingsError(f"{path}: a date or number that is none; put it in quotes if it is a text") from None
    except RecursionError:
        raise SettingsError(f"{path}: nested too deeply") from None
    if not isinstance(content, dict | None):
        raise SettingsError(f"{path}: settings are `name: value` pairs, not a {type(content).__name__}")


def _explain(error: ValidationError, path: Path | None) -> str:
    where = (
        f"{path}, the environment (TILLSTREAM_…) or the command line" if path else "TILLSTREAM_… or the command line"
    )
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"  {'.'.join(str(step) for step in fault['loc']) or 'settings'}: {fault['msg']}" for fault in faults]
    return "\n".join([f"wrong settings, in {where}:", *lines])


def _secret(value: SecretStr | None, file: Path | None) -> str | None:
    if file is None:
        return value.get_secret_value() if value is not None else None
    try:
        return file.read_text().strip()
    except OSError as error:
        raise SettingsError(f"secret file {file}: {error.strerror}") from None
