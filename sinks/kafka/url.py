"""`kafka://[USER@]HOST:PORT/TOPIC` as a sink."""

from pathlib import Path

from confluent_kafka import KafkaException
from sqlalchemy import URL

from sinks.base import SinkMisconfigured
from sinks.kafka.sink import KafkaSink
from sinks.url import positive_integer, require_folder, url_parameters

_PARAMETERS = ("broker", "index", "partitions", "replication_factor", "protocol", "mechanism", "ca_file")


def from_url(url: URL) -> KafkaSink:
    """Return the sink for a topic. `broker` may be given several times. Raises SinkMisconfigured."""
    params = url_parameters(url, *_PARAMETERS, many=("broker",))
    if not url.host or not url.database or "/" in url.database:
        raise SinkMisconfigured("A Kafka sink needs a broker and a topic: kafka://host:9092/pos.documents.")
    index = Path(params["index"]) if "index" in params else None
    if index is not None:
        require_folder(index, "index")
    wanted = positive_integer(params, "partitions", 4), positive_integer(params, "replication_factor", 1)
    try:
        return KafkaSink(_client_config(url, params), url.database, index=index, wanted=wanted)
    except KafkaException as error:  # names the setting, and not the password
        raise SinkMisconfigured(f"The Kafka client rejects the sink's URL: {error.args[0].str()}") from None


def _client_config(url: URL, params: dict[str, str]) -> dict[str, str]:
    """Return the settings of librdkafka: brokers, TLS and SASL."""
    default = "SASL_SSL" if url.username else "SSL" if "ca_file" in params else "PLAINTEXT"
    brokers = [f"{url.host}:{url.port or 9092}", *filter(None, params.get("broker", "").split(","))]
    config = {"bootstrap.servers": ",".join(brokers), "security.protocol": params.get("protocol", default)}
    if url.username:
        mechanism = params.get("mechanism", "SCRAM-SHA-512")
        config |= {"sasl.username": url.username, "sasl.password": str(url.password or ""), "sasl.mechanism": mechanism}
    if "ca_file" in params:
        config["ssl.ca.location"] = params["ca_file"]
    return config
