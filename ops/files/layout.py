"""How a file is written: compressed or not, encoding, format; for CSV its delimiter and header, for XML its records."""

import codecs
import csv
import gzip
import io
import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, cast

from charset_normalizer import from_bytes
from lxml import etree

from ops.inspect.value_kinds import is_number
from streams.sources.rows import column_names

#: A file, or a member of a zip archive.
File = Path | zipfile.Path
FileFormat = Literal["csv", "json", "json_lines", "json_array", "xml"]
FORMATS: tuple[FileFormat, ...] = ("csv", "json", "json_lines", "json_array", "xml")
ZIP = b"PK\x03\x04"  # how workbooks begin, too
_HEAD = 2**18
_CHUNK = 2**20
_DELIMITERS = ",;\t|"
#: Lines among which a header is looked for.
_MOST_ABOVE = 100
#: Bytes that Windows' code page leaves undefined.
_NOT_CP1252 = b"\x81\x8d\x8f\x90\x9d"
#: Bytes of non-ASCII lines that suffice to detect an encoding.
_SAMPLE = 2**16
#: UTF-8 with a few broken bytes is UTF-8: the number of valid non-ASCII characters required for each broken byte.
_RIGHT_FOR_A_WRONG = 10
#: The usual Chinese characters are pairs of high bytes, where Western letters are mostly single ones.
_PAIRED = re.compile(rb"[\xa1-\xf7][\xa1-\xfe]")
_HIGH = re.compile(rb"[\x80-\xff]")
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class NotReadable(Exception):
    """The file or a record of it can't be read; the message says what, where and what to do."""


@dataclass(frozen=True)
class FileLayout:
    """The layout of a file; `record` is the element that an XML file repeats, if any.

    `above` is the number of lines above a table's header.
    """

    format: FileFormat
    encoding: str
    compressed: bool
    delimiter: str = ""
    columns: tuple[str, ...] = ()
    header: bool = True
    record: str | None = None
    above: int = 0


def look(
    path: File,
    wanted: FileFormat | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    named: Sequence[str] = (),
) -> FileLayout:
    """Detect the file's layout; a given encoding or delimiter is taken as it is. Raises NotReadable.

    A table's header is its first line, or the first one that names all of the columns `named`.
    """
    if encoding is not None:
        _check_encoding(encoding)
    with opened(path) as file:
        head = file.read(_HEAD)
        compressed = isinstance(file, gzip.GzipFile)
        if head.startswith(ZIP):
            raise NotReadable(
                f"{path}: a workbook or an archive, which `tillstream import` alone reads; here, save a sheet as CSV,"
                " or unpack it"
            )
        encoding = encoding or _encoding(path, head)
        text = codecs.getincrementaldecoder(encoding)(_errors(encoding)).decode(head, final=len(head) < _HEAD)
    if not text.strip():
        raise NotReadable(f"{path}: the file is empty")
    if "\0" in text:
        raise NotReadable(f"{path}: neither text nor gzip; save it as CSV, JSON or XML")
    form = wanted or _format(text)
    if form == "csv":
        above = _lines_above(text, delimiter, named)
        table = "".join(io.StringIO(text, newline="").readlines()[above:]) if above else text
        delimiter, columns, header = _csv(path, table, delimiter)
        return FileLayout(form, encoding, compressed, delimiter, columns, header, above=above)
    record = _repeated(path) if form == "xml" else None
    return FileLayout(form, encoding, compressed, record=record)


@contextmanager
def opened(path: File) -> Iterator[IO[bytes]]:
    """Open the file's bytes, unpacked if it is gzip. Damage found while reading is raised as NotReadable."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with cast(IO[bytes], gzip.open(raw)) if packed else raw as file:
                yield file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise NotReadable(f"{path}: the gzip file is damaged: {error}; fetch it once more") from None
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise NotReadable(f"{path}: the zip file is damaged: {error}; fetch it once more") from None
    except OSError as error:
        raise NotReadable(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        wrong = f"not {error.encoding}, as its first bytes say: {error.reason}"
        raise NotReadable(f"{path}: {wrong}; save it as UTF-8") from None
    except etree.XMLSyntaxError as error:
        raise NotReadable(f"{path}:{error.lineno}: not well-formed XML: {error.msg}") from None


def as_text(file: IO[bytes], layout: FileLayout, errors: str | None = None) -> io.TextIOWrapper:
    """Decode the bytes, keeping line ends; `errors` as for `open`."""
    return io.TextIOWrapper(file, encoding=layout.encoding, errors=errors or _errors(layout.encoding), newline="")


def _errors(encoding: str) -> str:
    """Return advice on bytes that are invalid in the encoding: a file detected as UTF-8 may hold a few."""
    return "replace" if encoding == "utf-8" else "strict"


def _check_encoding(name: str) -> None:
    try:
        "".encode(name)
    except LookupError:
        raise NotReadable(f"there is no encoding {name!r}; utf-8, utf-16, gb18030, cp1252 are the usual ones") from None


def _encoding(path: File, head: bytes) -> str:
    """UTF-16 and UTF-8 by their marks, UTF-8 by being it, the others by what their letters are likely to be."""
    for bom, name in _BOMS.items():
        if head.startswith(bom):
            return name
    zeros = [head[place::2].count(0) for place in (0, 1)]
    if len(head) % 2 == 0 and max(zeros) * 4 > len(head) and min(zeros) == 0:  # every other byte, in Western text
        return "utf-16-be" if zeros[0] else "utf-16-le"
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    wrong = right = 0
    sample = bytearray()
    legacy = "cp1252"
    with opened(path) as file:
        for chunk in _chunks(file):
            text = decoder.decode(chunk)
            if text.isascii():
                continue
            try:
                right += len(text.encode()) - len(text)
            except UnicodeEncodeError:
                escaped = sum("\udc80" <= sign <= "\udcff" for sign in text)
                wrong += escaped
                right += sum(not sign.isascii() for sign in text) - escaped
                if chunk.translate(None, _NOT_CP1252) != chunk:
                    legacy = "latin-1"
            if len(sample) < _SAMPLE:
                sample += b"".join(line for line in chunk.splitlines(keepends=True) if not line.isascii())[:_SAMPLE]
        wrong += len(decoder.decode(b"", final=True))
    if wrong * _RIGHT_FOR_A_WRONG <= right or not wrong:
        return "utf-8"
    return _guessed(bytes(sample), legacy)


def _guessed(sample: bytes, western: str) -> str:
    """GB18030 or a Western code page, whichever makes words of the lines."""
    paired = 2 * len(_PAIRED.findall(sample))
    if paired < 0.8 * len(_HIGH.findall(sample)):  # the library alone takes a lone umlaut and its neighbour for one
        return western
    whole = sample.rpartition(b"\n")[0] or sample
    best = from_bytes(whole, cp_isolation=["gb18030", western]).best()
    return "gb18030" if best is not None and best.encoding == "gb18030" else western


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _format(text: str) -> FileFormat:
    start = text.lstrip("\ufeff \t\r\n")
    if start.startswith("<"):
        return "xml"
    if start.startswith("["):
        return "json_array"
    if not start.startswith("{"):
        return "csv"
    first, _, rest = start.partition("\n")
    try:
        json.loads(first)
    except json.JSONDecodeError:
        return "json"
    except (ValueError, RecursionError):
        pass  # a number too long, or nested too deeply: not readable, but a record
    return "json_lines" if rest.strip() else "json"


def _csv(path: File, text: str, delimiter: str | None) -> tuple[str, tuple[str, ...], bool]:
    """(delimiter, column names, whether the first row is the header)"""
    lines = [line for line in io.StringIO(text, newline="") if line.strip()]
    lines = lines[:-1][:200] or lines  # the last one may be cut off
    delimiter = delimiter or max(_DELIMITERS, key=lambda mark: _fits(lines, mark))
    try:
        first = column_names(next(csv.reader(lines, delimiter=delimiter)))
    except csv.Error as error:
        raise NotReadable(f"{path}:1: no CSV: {error}") from None
    header = not any(is_number(name) for name in first) and len(set(first)) == len(first) and all(first)
    return delimiter, tuple(first) if header else tuple(f"column_{n}" for n in range(1, len(first) + 1)), header


def _lines_above(text: str, delimiter: str | None, named: Sequence[str]) -> int:
    """Return the number of lines above the first that names all of these columns; 0 if no line does."""
    wanted = set(named)
    for number, line in enumerate(islice(io.StringIO(text, newline=""), _MOST_ABOVE) if wanted else ()):
        for mark in delimiter or _DELIMITERS:
            with suppress(csv.Error):
                if wanted <= set(column_names(next(csv.reader([line.removeprefix("\ufeff")], delimiter=mark), []))):
                    return number
    return 0


def _fits(lines: list[str], delimiter: str) -> tuple[float, int]:
    """How well the delimiter splits the rows: the share of rows of the usual width, and that width."""
    try:
        widths = Counter(map(len, csv.reader(lines, delimiter=delimiter)))
    except csv.Error:
        return 0.0, 0
    width, count = widths.most_common(1)[0]
    return (count / widths.total(), width) if width > 1 else (0.0, 0)


def _repeated(path: File) -> str | None:
    """Return the root's child element that an XML file repeats."""
    children: Counter[str] = Counter()
    for element in xml_children(path):
        children[local(element.tag)] += 1
    name, count = children.most_common(1)[0] if children else ("", 0)
    return name if count > 1 else None


def xml_children(path: File) -> Iterator[Any]:
    """Yield the children of the root, one at a time: each is gone when the next is asked for. Raises NotReadable."""
    depth = 0
    with opened(path) as file:
        for event, element in etree.iterparse(
            file, events=("start", "end"), resolve_entities=False, no_network=True, remove_comments=True
        ):
            depth += 1 if event == "start" else -1
            if event == "end" and depth == 1:
                yield element
                element.clear()
                parent = element.getparent()
                while parent is not None and element.getprevious() is not None:
                    del parent[0]


def local(tag: Any) -> str:
    """Return a name without its namespace."""
    return str(tag).rpartition("}")[2]
