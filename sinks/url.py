"""URLs of sinks: parse them, show them without secrets, and read their parameters.

All functions but `shown` raise SinkMisconfigured; its message never repeats a value that may be secret.
"""

import re
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from sinks.base import SinkMisconfigured

#: Names of parameters that are secret, misspelt and future ones included.
_SECRET = re.compile("pass|pwd|secret|scram", re.IGNORECASE)
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


def parse_url(url: str, hint: str = "") -> URL:
    """Return the parts of `url`. `hint` is added to the error where it isn't a URL at all."""
    try:
        parsed = make_url(url)
        if parsed.port is not None and not 0 < parsed.port < 2**16:
            raise ValueError
    except ArgumentError:
        raise SinkMisconfigured(f"This is not a URL such as sqlite:///tillstream.db. {hint}".rstrip()) from None
    except ValueError:  # from SQLAlchemy too, which converts nothing but the port
        raise SinkMisconfigured("The port in the sink's URL is not a number from 1 to 65535.") from None
    return parsed


def shown(url: str) -> str:
    """Return `url` for findings and logs: without a password before the host or secrets in the query."""
    try:
        parsed = parse_url(url)
    except SinkMisconfigured:
        return "(not a URL)"  # any part of it may be the password
    host = parsed.host and parsed.host.rpartition("@")[2]  # a password with an "@" in it continues into the host
    query = {name: value for name, value in parsed.query.items() if not _SECRET.search(name)}
    bare = URL.create(parsed.drivername, parsed.username, None, host, parsed.port, parsed.database, query)
    return bare.render_as_string()


def url_parameters(url: URL, *known: str, many: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the parameters after the '?'; those in `many` may be repeated, and are joined with commas.

    Unknown parameters are an error, so that a misspelt one is not silently ignored.
    """
    unknown = sorted(set(url.query) - set(known))
    if unknown:
        raise SinkMisconfigured(
            f"The sink's URL has a parameter that is not known: {unknown[0]}. Known are {', '.join(known)}."
        )
    repeated = sorted(name for name, value in url.query.items() if not isinstance(value, str) and name not in many)
    if repeated:
        raise SinkMisconfigured(f"The sink's URL has the parameter {repeated[0]} twice.")
    return {name: value if isinstance(value, str) else ",".join(value) for name, value in url.query.items()}


def positive_integer(params: dict[str, str], name: str, default: int) -> int:
    """Return a parameter that is a whole number above 0."""
    value = params.get(name, str(default))
    if not re.fullmatch(r"[1-9]\d{0,8}", value):
        raise SinkMisconfigured(f"The parameter {name} in the sink's URL is not a whole number above 0.")
    return int(value)


def http_root(url: URL) -> str:
    """Return the URL's `https://host:port`. Plain `http` is for this machine, or with the parameter insecure=yes."""
    scheme = url.drivername.rpartition("+")[2]
    if not url.host:
        raise SinkMisconfigured("The sink's URL has no host.")
    if scheme == "http" and url.host not in _LOCAL_HOSTS and url.query.get("insecure") != "yes":
        raise SinkMisconfigured(
            "The sink's URL says http: anybody on the network could read sales and secrets. Use https, or add "
            "insecure=yes to the URL if the network is safe."
        )
    port = f":{url.port}" if url.port else ""
    return f"{scheme}://{url.host}{port}"


def existing_file(ca_file: str | None) -> str | None:
    """Return `ca_file` after checking that it exists, if it is given."""
    if ca_file is not None and not Path(ca_file).is_file():
        raise SinkMisconfigured(f"The sink's ca_file is not a file: {ca_file}")
    return ca_file


def require_folder(file: Path, description: str) -> None:
    """Raise unless the folder of `file` exists."""
    folder = file.absolute().parent
    if not folder.is_dir():
        raise SinkMisconfigured(f"The folder of the {description} does not exist: {folder}. Create it.")
