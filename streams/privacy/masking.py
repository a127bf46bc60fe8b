"""Mask personal texts wherever they appear: known by the contract's paths, and by the event's personal fields."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import lru_cache
from typing import Any
from unicodedata import normalize

from lxml import etree

from schemas.sale import Customer

STARS = "***"
PERSONAL_FIELDS = frozenset(f"customer.{name}" for name in Customer.__annotations__)
#: A shorter text is masked only where it is the whole value: inside other texts it appears by chance.
_SHORTEST = 3
#: A shorter number is hidden where no other digit follows or goes before: 101 is not in 21019.
_NUMBER = 7
_DEEPEST = 100
_CUT = "…"


class TextMask:
    """Remembers personal texts, and shows all others."""

    def __init__(self) -> None:
        self._hidden: set[str] = set()
        self._lengths: defaultdict[str, set[int]] = defaultdict(set)  # by how a hidden text begins

    def hide(self, value: Any) -> None:
        """Treat the value, and everything in it, as personal from now on."""
        for text in texts(value):
            folded = _folded(text)[0].strip()
            if folded:
                self._hidden.add(folded)
            if len(folded) >= _SHORTEST:
                self._lengths[folded[:_SHORTEST]].add(len(folded))

    def show(self, value: Any, depth: int = 0) -> Any:
        """Return a copy of the value with stars for personal texts, in any case. Very deep values are cut off."""
        if depth > _DEEPEST:
            return _CUT
        if isinstance(value, dict):
            return {self._name(name): self.show(inner, depth + 1) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.show(inner, depth + 1) for inner in value]
        if isinstance(value, etree._Element):
            return self._element(value)
        if value is None or isinstance(value, bool):
            return value
        text = str(value)
        shown = self._text(text)
        return value if shown == text else shown

    def _name(self, name: str) -> str:
        """Names are what paths are made of: one is hidden only if it is a personal text itself."""
        return STARS if _folded(name)[0].strip() in self._hidden else name

    def _text(self, text: str) -> str:
        folded, places = _folded(text)
        if folded.strip() in self._hidden:
            return STARS
        made: list[str] = []
        done = 0
        for start, end in self._found(folded):
            first, last = places[start], places[end - 1] + 1
            if first >= done:
                made += text[done:first], STARS
            done = max(done, last)
        return "".join([*made, text[done:]])

    def _found(self, folded: str) -> Iterator[tuple[int, int]]:
        """(start, end) of the hidden texts; one lookup a character, however many texts are hidden."""
        for start in range(len(folded) if self._lengths else 0):
            lengths = self._lengths.get(folded[start : start + _SHORTEST], ())
            ends = [start + length for length in lengths if folded[start : start + length] in self._hidden]
            longest = max((end for end in ends if not _in_longer_number(folded, start, end)), default=0)
            if longest:
                yield start, longest

    def _element(self, element: Any) -> Any:
        shown = deepcopy(element)
        for each in shown.iter(etree.Element):
            each.text, each.tail = self.show(each.text), self.show(each.tail)
            for name, text in each.attrib.items():
                each.attrib[name] = self.show(text)
        return shown


def texts(value: Any) -> Iterator[str]:
    """Yield the texts and numbers in a value, however deep."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting.extend(each.values())
        elif isinstance(each, list | tuple):
            waiting.extend(each)
        elif isinstance(each, etree._Element):
            texts = list(each.itertext())
            waiting.extend([*texts, "".join(texts)])
            waiting.extend(text for inner in each.iter(etree.Element) for text in inner.attrib.values())
        elif each is not None and not isinstance(each, bool | Exception):
            yield str(each)


def _folded(text: str) -> tuple[str, Sequence[int]]:
    """Return the text without capitals and other ways to write a character, and where each of its characters comes
    from."""
    if text.isascii():
        return text.lower(), range(len(text))
    made = [(character, place) for place, each in enumerate(text) for character in _plain(each)]
    return "".join(character for character, _ in made), [place for _, place in made]


@lru_cache(4096)
def _plain(character: str) -> str:
    return normalize("NFKD", character).casefold()


def _in_longer_number(text: str, start: int, end: int) -> bool:
    before, after = text[max(start - 1, 0) : start], text[end : end + 1]
    joined = (text[start].isdigit() and before.isdigit()) or (text[end - 1].isdigit() and after.isdigit())
    return joined and end - start < _NUMBER
