"""XPath with exact money: what its own arithmetic in floating point would lose."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from streams.sources.paths import PathError, PathFailed, xml_nodes, xml_path

RECORD = etree.fromstring("<a flag='TRUE'><b>1.10</b><b> 2.20 </b><c>x</c><d/></a>")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("total(b)", "3.3"),
        ("total(z)", "0"),
        ("add(b, b[2])", "3.3"),
        ("subtract(0.3, 0.1)", "0.2"),
        ("multiply(b, 3)", "3.3"),
        ("divide(1, 3)", "0.333333333333"),
        ("divide(1, z)", None),
        ("absolute(-2.50)", "2.5"),
        ("rounded('2.345', 2)", "2.35"),
        ("rounded('-2.345', 2)", "-2.35"),
        ("first(z, d, c)", "x"),
        ("first(z, d)", None),
        ("choose(b > 1, c, 'no')", "x"),
        ("choose(b > 9, c, 'no')", "no"),
        ("choose(z, c, d)", None),
        ("joined('-', b, c)", "1.10-x"),
        ("joined('-', b, z)", None),
        ("yes(@flag)", True),
        ("yes(c)", False),
        ("same(b, 1.104)", True),
        ("same(b, 1.105)", False),
        ("percentage('1.00', '9.95')", "10"),
        ("percentage('8.25', '100.00')", "8.25"),
        ("percentage('0.02', '0.10')", None),
        ("percentage(z, z)", None),
        ("b[2]", "2.20"),
        ("count(b)", "2"),
    ],
)
def test_path_finds(path: str, found: Any) -> None:
    assert xml_path(path)(RECORD) == found


@pytest.mark.parametrize(
    ("nodes", "kept"),
    [
        ("a5 b2", "a5 b2"),
        ("a5! b2", "b2"),
        ("a5 a-5! b2", "b2"),
        ("a5! a-5! b2", "b2"),
        ("a5 a5! a-5!", "a5"),
        ("a5 a5 a-5!", "a5"),
        ("a5 b-5!", "a5"),
        ("a-5! a5", "a5"),
        ("a6 a-2!", "a6 a-2"),
        ("a6 a-7!", "a6"),
        ("a6 a-2 b1!", "a6 a-2"),
        ("a0 a0!", "a0"),
    ],
)
def test_nodes_that_are_marked_or_taken_back_are_left_out(nodes: str, kept: str) -> None:
    elements = "".join(
        f"<{node[0]} m='{node.endswith('!')}'>{node[1:].rstrip('!')}</{node[0]}>" for node in nodes.split()
    )
    found = xml_nodes("""unreversed(*, "@m = 'True'", "name()", ".")""")(etree.fromstring(f"<r>{elements}</r>"))
    assert sorted(f"{node.tag}{node.text}" for node in found) == sorted(kept.split())


def test_xpaths_own_sum_would_not_be_exact() -> None:
    assert xml_path("sum(b)")(RECORD) == "3.3000000000000003"


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("total(c)", "not_a_number"),
        ("multiply('1e400', 2)", "out_of_range"),
        ("rounded(b, 99)", "out_of_range"),
    ],
)
def test_impossible_computation_is_reported(path: str, fault: str) -> None:
    with pytest.raises(PathFailed, match=fault):
        xml_nodes(path)(RECORD)


@pytest.mark.parametrize("path", ["b[", "nothing_of_the_kind(b)", "add(b)", "p:b", ""])
def test_invalid_xpath_is_reported_when_the_contract_is_loaded(path: str) -> None:
    with pytest.raises(PathError, match="is not valid XPath"):
        xml_path(path)


numbers = st.decimals(-(10**9), 10**9, places=4)


@given(st.lists(numbers, max_size=20))
def test_total_is_exact(values: list[Decimal]) -> None:
    record = etree.fromstring("<a>" + "".join(f"<b>{value}</b>" for value in values) + "</a>")
    assert Decimal(str(xml_path("total(b)")(record))) == sum(values)


@given(numbers, numbers)
def test_add_and_subtract_and_multiply_are_exact(a: Decimal, b: Decimal) -> None:
    record = etree.fromstring(f"<r><a>{a}</a><b>{b}</b></r>")
    assert Decimal(str(xml_path("add(a, b)")(record))) == a + b
    assert Decimal(str(xml_path("subtract(a, b)")(record))) == a - b
    assert Decimal(str(xml_path("multiply(a, b)")(record))) == a * b
