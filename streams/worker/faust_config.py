"""Faust's settings and credentials for a worker."""

import ssl

import faust

from streams.settings import KafkaSecurity, Settings
from streams.worker.transport import EagerTables


def faust_settings(settings: Settings) -> dict[str, object]:
    """Return Faust's settings. Each one that differs from Faust's default has its reason next to it."""
    return {
        "broker": [f"kafka://{address.strip()}" for address in settings.broker.split(",")],
        "broker_credentials": faust_credentials(settings.kafka),
        "store": "memory://",
        "TableManager": EagerTables,
        "processing_guarantee": "at_least_once",  # exactly-once is unreliable in Faust; the sink is idempotent
        "consumer_auto_offset_reset": "earliest",
        "topic_allow_declare": False,  # bootstrap declares topics, with the right number of partitions
        "topic_disable_leader": True,
        "web_enabled": False,
        "table_standby_replicas": 0,  # windows load in a second; standby copies would double the reads
        "stream_wait_empty": False,  # would wait forever while the sink is down; the transport waits briefly instead
        "stream_buffer_maxsize": 64,  # slices: more than one poll makes, and the transport polls only one poll ahead
        "stream_recovery_delay": 0.0,
        "broker_session_timeout": settings.session_seconds,  # Faust's 60 s leave partitions of the dead idle too long
        "broker_rebalance_timeout": 20.0,
        "broker_max_poll_interval": 86_400.0,  # no polls while a sink is down; the watchdog detects real stalls
        "broker_heartbeat_interval": settings.session_seconds / 4,
        "broker_request_timeout": max(40.0, settings.session_seconds),
        "broker_commit_interval": 1.0,  # a crash repeats at most one second, or 50 slices
        "broker_commit_every": 50,
        "consumer_max_fetch_size": 2**22,  # bounds a poll, and so the memory, to 4 MiB per partition
        "producer_acks": -1,
        "producer_max_request_size": settings.max_record_bytes + 2**16,  # a dead letter is its record plus headers
        "producer_request_timeout": 30.0,
    }


def faust_credentials(security: KafkaSecurity) -> faust.SASLCredentials | faust.SSLCredentials | None:
    """Return Faust's credentials for these settings, or None for plain text."""
    if security.protocol == "PLAINTEXT":
        return None
    context = None
    if security.protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=str(security.ca_file) if security.ca_file else None)
        if security.certificate_file:
            context.load_cert_chain(security.certificate_file, security.key_file)
    if security.protocol == "SSL":
        return faust.SSLCredentials(context)
    return faust.SASLCredentials(
        username=security.username,
        password=security.secret(),
        mechanism=security.mechanism,
        ssl_context=context,
    )
