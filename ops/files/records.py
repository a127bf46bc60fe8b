"""The records of a file, one after the other: CSV rows as lists, the others with the text they had."""

import csv
import json
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from typing import IO, Any, NoReturn

from lxml import etree

from ops.files.layout import File, FileLayout, NotReadable, as_text, local, opened, xml_children

#: Told how many of the file's bytes have been read so far.
Progress = Callable[[int], None]
_PIECE = 2**20
_LARGEST = 2**26
_EVERY = 2_000


def rows(path: File, layout: FileLayout, progress: Progress) -> Iterator[list[str]]:
    """Yield the rows of a CSV file, without its header and without empty ones. Raises NotReadable."""
    with opened(path) as file, as_text(file, layout) as text:
        reader = csv.reader(text, delimiter=layout.delimiter)
        filled = filter(None, reader)
        try:
            if layout.header:
                next(filled, None)
            for number, row in enumerate(filled):
                if number % _EVERY == 0:
                    progress(position(file))
                yield row
        except csv.Error as error:
            raise NotReadable(f"{path}:{reader.line_num}: no CSV: {error}") from None


def texts(path: File, layout: FileLayout, progress: Progress, errors: str | None = None) -> Iterator[str]:
    """Yield the records of a JSON or XML file, their text unchanged; `errors` as for `open`. Raises NotReadable."""
    if layout.format == "xml":
        yield from _xml(path, layout)
        return
    with opened(path) as file, as_text(file, layout, errors) as text:
        if layout.format == "json_lines":
            for number, line in enumerate(text):
                if number % _EVERY == 0:
                    progress(position(file))
                if line.strip():
                    yield line.strip()
        elif layout.format == "json_array":
            yield from _items(path, text, lambda: progress(position(file)))
        else:
            yield text.read()


def parse(text: str) -> Any:
    """Return a JSON text's value, fractions exact. Raises ValueError."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_no_number)
    except InvalidOperation:
        raise ValueError("a number beyond all bounds") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def tree(element: Any) -> Any:
    """Return an XML element as a tree: attributes are `@name`, children that come several times are lists."""
    made: dict[str, Any] = {f"@{local(name)}": value for name, value in element.attrib.items()}
    for child in element.iterchildren(etree.Element):
        name, inner = local(child.tag), tree(child)
        if name in made:
            made[name] = [*made[name], inner] if isinstance(made[name], list) else [made[name], inner]
        else:
            made[name] = inner
    text = (element.text or "").strip()
    if not made:
        return text or None
    return made | {"text()": text} if text else made


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def position(file: IO[bytes]) -> int:
    """How much of the file on disk has been read."""
    raw = getattr(file, "fileobj", None) or file
    return int(raw.tell())


def _items(path: File, text: IO[str], tell: Callable[[], None]) -> Iterator[str]:
    """Yield the items of a JSON array, never the whole of it in memory."""
    decoder = json.JSONDecoder()
    buffer, ended, number = text.read(_PIECE), False, 1
    place = buffer.find("[") + 1
    if buffer[:place].strip("\ufeff \t\r\n") != "[":
        raise NotReadable(f"{path}: no JSON array, which begins with [")
    while True:
        while place < len(buffer) and buffer[place] in " \t\r\n,":
            place += 1
        if buffer[place : place + 1] == "]":
            return
        try:
            if place >= len(buffer):
                raise ValueError("the file ends")
            _, end = decoder.raw_decode(buffer, place)
            if end == len(buffer) and not ended:  # a number may go on
                raise ValueError("the file ends")
        except RecursionError:
            raise NotReadable(f"{path}: item {number} of the JSON array is nested too deeply") from None
        except ValueError as error:
            more = text.read(max(_PIECE, len(buffer) - place))
            tell()
            if not more or len(buffer) - place > _LARGEST:
                if ended or len(buffer) - place > _LARGEST or place >= len(buffer):
                    fault = getattr(error, "msg", error)  # without a place, which would be one in the buffer
                    where = f"{path}: item {number} of the JSON array"
                    raise NotReadable(f"{where} breaks off or is not valid: {fault}") from None
                ended = True
            buffer, place = buffer[place:] + more, 0
            continue
        yield buffer[place:end]
        place, number = end, number + 1


def _xml(path: File, layout: FileLayout) -> Iterator[str]:
    if layout.record is None:
        with opened(path) as file:
            root = etree.parse(file, etree.XMLParser(resolve_entities=False, no_network=True)).getroot()
        yield etree.tostring(root, encoding="unicode", with_tail=False)
        return
    for child in xml_children(path):
        if local(child.tag) == layout.record:
            yield etree.tostring(child, encoding="unicode", with_tail=False)
