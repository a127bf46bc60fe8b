"""A preflight of Tryton tells a module that is older than this program needs."""

import pytest

from sinks.tryton.checks import _module


@pytest.mark.parametrize(("version", "ok"), [("8.2.0", False), ("8.2.1", True), ("8.2.10", True), ("8.3.0", True)])
def test_older_module_is_to_be_upgraded_and_keeps_nothing_from_starting(version: str, ok: bool) -> None:
    found = _module(version)
    assert (found.ok, found.detail) == (ok, f"tillstream {version}")
    assert ok or ("-u tillstream" in found.advice and not found.vital)
