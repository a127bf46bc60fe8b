"""Personal values as stars, wherever they stand: known by the contract's paths, and by the event's personal fields."""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from lxml import etree

from schemas.contract import Contract
from schemas.sale import Customer
from streams.sources.paths import NotFound, PathError, json_path, xml_nodes

STARS = "***"
PERSONAL_FIELDS = frozenset(f"customer.{name}" for name in Customer.__annotations__)


class Stars:
    """Remembers personal values, and shows all others."""

    def __init__(self) -> None:
        self._hidden: set[str] = set()

    def hide(self, value: Any) -> None:
        """The value, and all in it, is personal from now on."""
        self._hidden.update(text for text in _texts(value) if text.strip())

    def hide_at(self, contract: Contract, nodes: Iterable[Any]) -> None:
        """What stands at the contract's personal paths."""
        namespaces = contract.xml.namespaces
        for path in contract.personal:
            try:
                if contract.format == "xml":
                    find = xml_nodes(path, None if isinstance(namespaces, str) else namespaces)
                else:
                    find = json_path(path)
                for node in nodes:
                    self.hide(find(node))
            except (PathError, NotFound):
                continue  # a path of another kind of record

    def show(self, value: Any) -> Any:
        """The value with stars for what is personal in it; a copy."""
        if isinstance(value, dict):
            return {name: self.show(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.show(inner) for inner in value]
        if isinstance(value, etree._Element):
            return self._show_element(value)
        return STARS if value is not None and str(value).strip() in self._hidden else value

    def _show_element(self, element: Any) -> Any:
        shown = deepcopy(element)
        for each in shown.iter(etree.Element):
            each.text = self.show(each.text)
            for name, text in each.attrib.items():
                each.attrib[name] = self.show(text)
        return shown


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, etree._Element):
        yield from (text.strip() for text in value.itertext())
        yield from (text for each in value.iter(etree.Element) for text in each.attrib.values())
    elif value is not None and not isinstance(value, bool):
        yield str(value).strip()
