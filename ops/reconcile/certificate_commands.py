"""`tillstream reconcile certificate` and `verify`: sign a store's day, and check a signed one."""

import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TypeVar

import click

from ops.dlq.commands import with_operator
from ops.reconcile import certificate, render
from ops.reconcile.certificate_page import render_page
from ops.reconcile.day_states import current_state
from ops.reconcile.options import DIFFERS, allow_open_option, find_day, reconcile_with_progress, with_one_day
from ops.terminal.options import settings_from, with_broker, with_settings
from streams.settings import Settings, SettingsError

K = TypeVar("K")


@click.command(
    name="certificate",
    epilog="\b\nExample:\n  tillstream reconcile certificate --store S17 --day 2026-03-10 --to S17.json --html S17.htm",
)
@with_settings
@with_one_day
@click.option("--to", type=click.Path(path_type=Path), help="Write the JSON to this file, not to the screen.")
@click.option("--html", type=click.Path(path_type=Path), help="Also write a page for people to read and print.")
@allow_open_option
@with_operator
def certificate_command(
    config: Path | None,
    broker: str | None,
    sink_url: str | None,
    store: str,
    day: date,
    to: Path | None,
    html: Path | None,
    allow_open: bool,
    by: str,
) -> None:
    """Write a signed certificate of a store's day.

    It holds the day's totals and digests.

    The key is certificate_key of the settings. Exit code 1 if the day differs, is incomplete or unproved, which the
    certificate says as well. With --allow-open only if it differs.
    """
    settings = settings_from(config, broker=broker, sink_url=sink_url)
    key = _configured_key(settings, certificate.private_key)
    found = reconcile_with_progress(settings, store=store, first=day, last=day, deep=True)
    report = find_day(found, store, day)
    state = current_state(report, found.history.get((store, day.isoformat()), []), found.at, by)
    tills = f"topic {settings.topic} at {settings.broker}"
    erp = settings.sink_url.partition("?")[0]  # its parameters may be confidential
    content = render.day_as_json(report, state)
    if found.unplaced is not None:
        content["without_a_day"] = render.answers_as_json(found.unplaced)
    signed = certificate.issue(content, found.at, by, key, tills=tills, erp=erp, compared=found.compared)
    text = certificate.to_text(signed)
    if to is None:
        click.echo(text, nl=False)
    else:
        to.write_text(text, encoding="utf-8")
    if html is not None:
        html.write_text(render_page(signed), encoding="utf-8")
    wrong = [day for day in found.all if (day.differences if allow_open else day.is_wrong)]
    sys.exit(DIFFERS if wrong else 0)


@click.command(
    name="verify",
    epilog="\b\nExamples:\n  tillstream reconcile verify S17.html --key finance.pub.pem\n"
    "  tillstream reconcile verify S17.json",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path),
    help="The public key (PEM); by default that of the key in the settings.",
)
@with_broker
def verify_command(file: Path, key_file: Path | None, config: Path | None, broker: str | None) -> None:
    """Verify the signature of a certificate (JSON or page).

    Exit code 1 if it is not as it was signed.

    Only the public key is needed: no settings, no broker and no ERP.
    """
    if key_file is None:
        key = _configured_key(settings_from(config, broker=broker), certificate.public_key)
    else:
        key = _parse_key(_read(key_file), certificate.public_key, str(key_file))
    text = _read(file)
    fault = certificate.find_fault(text, key)
    if fault is not None:
        click.echo(f"{file}: {fault}", err=True)
        sys.exit(DIFFERS)
    click.echo(f"{file}: as it was signed, with key {certificate.key_id(key)}")
    if certificate.is_of_books_alone(text):
        click.echo(
            "it certifies that the books agreed, not that everything was booked, and its digests cover fewer fields "
            "than today's: issue a new certificate to cover both"
        )


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None


def _configured_key(settings: Settings, parse: Callable[[str], K]) -> K:
    key = settings.certificate_secret()
    if not key:
        raise SettingsError(
            "a certificate needs a key: set certificate_key_file, or TILLSTREAM_CERTIFICATE_KEY; "
            + certificate.KEY_HINT
        )
    return _parse_key(key, parse, "certificate_key")


def _parse_key(pem: str, parse: Callable[[str], K], source: str) -> K:
    try:
        return parse(pem)
    except certificate.InvalidKey as error:
        raise SettingsError(f"{source}: {error}") from None
