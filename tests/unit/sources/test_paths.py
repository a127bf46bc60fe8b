"""Paths find what their languages say, also where they are run without the library."""

from decimal import Decimal
from typing import Any

import jmespath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from streams.sources.paths import PathError, PathFailed, json_path, xml_nodes, xml_path

names = st.sampled_from(["a", "b", "c"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
steps = st.lists(names | st.integers(-3, 3), min_size=1, max_size=4)


def written(steps: list[str | int]) -> str:
    text = "@" if isinstance(steps[0], int) else ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


@given(steps, values)
def test_chains_of_names_and_indexes_give_the_same_as_jmespath(steps: list[str | int], value: Any) -> None:
    assert json_path(written(steps))(value) == jmespath.search(written(steps), value)


EXPRESSIONS = """
a || b
a && b
!a
!(a.b)
a == b
a != `1`
a == `true`
a < b
a >= `0`
a > 'x'
a[*].b
a[]
a[].b[]
a[?b]
a[?b].c | [0]
a[?b == `1` && !c].a
a[?b > `0`]
[a, b.c]
{x: a, y: b.c}
a[*].{x: b, y: c}
a[*].[b, c][]
a[1:]
a.*
a.*.b
length(a || '')
keys(@)
sort_by(a, &b)
map(&b, a || `[]`)
max_by(a, &b).c
not_null(a, b, 'x')
join('-', a)
to_string(a)
type(a)
@
`[1]`
a[?contains(['x', 'y'], b)]
(a || b)[0]
a | [0] | b
[*].a
[?a]
[0].a[1]
""".strip().splitlines()


@settings(max_examples=400)
@given(st.sampled_from(EXPRESSIONS), values)
def test_all_expressions_give_the_same_as_jmespath(path: str, value: Any) -> None:
    try:
        expected = jmespath.search(path, value)
    except (jmespath.exceptions.JMESPathError, TypeError):
        with pytest.raises(PathFailed):
            json_path(path)(value)
    else:
        found = json_path(path)(value)
        assert found == expected
        assert repr(found) == repr(expected)  # to Python True is 1


def test_unknown_function_is_reported_at_load() -> None:
    with pytest.raises(PathError, match="there is no function sum_up"):
        json_path("a.sum_up(b)")


@pytest.mark.parametrize("path", ["a..b", "a[", "", "a b", "sum(", "`"])
def test_invalid_path_is_refused_in_one_line(path: str) -> None:
    with pytest.raises(PathError, match="is not valid JMESPath") as error:
        json_path(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "result"),
    [
        ("add('0.1', '0.2')", "0.3"),
        ("subtract(`1`, '0.90')", "0.1"),
        ("multiply('1.10', `3`)", "3.3"),
        ("divide('1', `3`)", "0.333333333333"),
        ("divide('1', `0`)", None),
        ("in_units('250', 'g', {g: '0.001', kg: '1'})", "0.25"),
        ("in_units(`3`, 'cs', {ea: '1', cs: '12'})", "36"),
        ("rounded('0.125', `2`)", "0.13"),
        ("rounded('-0.125', `2`)", "-0.13"),
        ("rounded(divide('2', `3`), `6`)", "0.666667"),
        ("rounded(divide('2', `0`), `6`)", "0"),
        ("total(a)", "30.3"),
        ("total(missing)", "0"),
        ("add(missing, '2')", "2"),
        ("total(a[?compare(@, `15`) > `0`])", "20.2"),
    ],
)
def test_arithmetic_is_exact(path: str, result: str | None) -> None:
    assert json_path(path)({"a": ["10.1", "20.2", None]}) == result


@given(st.lists(st.decimals("-99999999", "99999999", places=2), max_size=20))
def test_total_is_the_sum_to_the_cent(amounts: list[Decimal]) -> None:
    assert Decimal(json_path("total(@)")([str(amount) for amount in amounts])) == sum(amounts)


@pytest.mark.parametrize("unit", ["lb", "", None, 3])
def test_quantity_in_an_unlisted_unit_fails(unit: Any) -> None:
    with pytest.raises(PathFailed):
        json_path("in_units(q, u, {g: '0.001', kg: '1'})")({"q": "1", "u": unit})


@pytest.mark.parametrize("path", ["namespace::*", "//Line/namespace :: a"])
def test_namespace_axis_is_refused(path: str) -> None:
    with pytest.raises(PathError, match="declare prefixes in"):
        xml_path(path)


def test_comparing_text_with_a_number_fails_without_a_crash() -> None:
    with pytest.raises(PathFailed):
        json_path("a[?@ > `1`]")({"a": ["x"]})


@pytest.mark.parametrize("value", ["x", "1e999999999", "NaN", "Infinity", "1" * 40, "0." + "1" * 40, True, [], {}])
def test_value_that_is_not_a_number_fails(value: Any) -> None:
    with pytest.raises(PathFailed):
        json_path("add(a, '1')")({"a": value})


ORDER = etree.fromstring('<Order id="7"><Line><Sku>A</Sku><Qty>2</Qty></Line><Line><Sku>B<b>C</b></Sku></Line></Order>')


@pytest.mark.parametrize(
    ("path", "result"),
    [
        ("Line/Sku", "A"),
        ("Line[2]/Sku", "BC"),
        ("@id", "7"),
        ("Line/Missing", None),
        ("count(Line)", "2"),
        ("Line/Qty = 2", True),
        ("concat(@id, '-', Line[1]/Qty)", "7-2"),
    ],
)
def test_xpath_gives_the_text_of_the_first_hit(path: str, result: Any) -> None:
    assert xml_path(path)(ORDER) == result


def test_xpath_gives_all_parts() -> None:
    assert [line.findtext("Sku") for line in xml_nodes("Line")(ORDER)] == ["A", "B"]


@pytest.mark.parametrize("path", ["Line[", "", "a:b:c", "//", "x:Line", "unknown(Line)"])
def test_invalid_xpath_is_refused(path: str) -> None:
    with pytest.raises(PathError, match="is not valid XPath"):
        xml_path(path)


def test_lists_that_refer_to_one_another_are_joined() -> None:
    record = {
        "items": [{"id": 1}, {"id": "2"}, {}, 3],
        "parts": [{"of": "1", "n": 5}, {"of": 1, "n": 6}, {"n": 7}, None],
    }
    joined = json_path("joined(items, 'id', parts, 'of', 'parts')")
    assert joined(record) == [{"id": 1, "parts": record["parts"][:2]}, {"id": "2", "parts": []}, {"parts": []}]
    assert joined({}) == []
