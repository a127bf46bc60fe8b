"""Reads the tables of master data and checks each row; a fault names the file and line, or the number of the row."""

import csv
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from schemas.mapping import ROWS, MasterRow, MasterTable, TableQuery
from sinks.base import SinkMisconfigured
from sinks.sql import queries
from streams.sources.contracts import ContractError, parse_yaml

#: Faults of one table in the message: fixing the first ones often fixes the others as well.
MAX_FAULTS = 20


class QueryDatabase(NamedTuple):
    """The sink's database, for queries without a URL of their own."""

    url: str
    password: str | None


class RawRow(NamedTuple):
    """A row before validation, and its location for messages."""

    location: str
    values: dict[str, Any]


def read(name: str, table: MasterTable[Any], mapping: Path, database: QueryDatabase) -> list[MasterRow]:
    """Read the table `name` of a mapping file. Raises ContractError, and SinkUnavailable for a query."""
    rows: list[MasterRow] = []
    locations: dict[Any, str] = {}
    faults: list[str] = []
    for location, values in _raw_rows(name, table, mapping, database):
        try:
            row = ROWS[name].model_validate(values)
        except ValidationError as error:
            faults += [
                f"{location}: {_fault_text(fault)}" for fault in error.errors(include_url=False, include_input=False)
            ]
            continue
        if row.key in locations:
            faults.append(f"{location}: the same key as in {locations[row.key]}; keep one")
        locations[row.key] = location
        rows.append(row)
    if not rows and not faults:
        faults.append(
            f"{_location(name, table, mapping)}: no rows; a table that is empty by mistake would reject everything"
        )
    if faults:
        more = [f"… and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
        raise ContractError("\n".join([*faults[:MAX_FAULTS], *more]))
    return rows


def stamp(table: MasterTable[Any], mapping: Path, database: QueryDatabase) -> object:
    """Return a value that changes whenever the table does. Raises SinkUnavailable for a query."""
    if table.file is not None:
        return stamp_of_file(mapping.parent / table.file)
    if table.sql is None:
        return None
    try:
        rows = _query(table.sql, table.sql.changed or table.sql.query, mapping, database)
    except ContractError as error:
        return str(error)
    return sha256(repr(rows).encode()).digest()


def stamp_of_file(path: Path) -> object:
    """Return the file's time, size and inode; None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _fault_text(fault: Any) -> str:
    field = ".".join(map(str, fault["loc"])) or "row"
    return f"{field}: {fault['msg'].removeprefix('Value error, ')}"


def _location(name: str, table: MasterTable[Any], mapping: Path) -> str:
    return str(mapping.parent / table.file) if table.file is not None else f"{mapping}: {name}"


def _raw_rows(name: str, table: MasterTable[Any], mapping: Path, database: QueryDatabase) -> Iterator[RawRow]:
    location = _location(name, table, mapping)
    if table.rows is not None:
        listed = [row.model_dump(exclude_none=True) for row in table.rows]
        yield from (RawRow(f"{location}.rows.{index}", values) for index, values in enumerate(listed))
        return
    if table.sql is not None:
        rows = _query(table.sql, table.sql.query, mapping, database)
        raw = iter([RawRow(f"{location}: row {number}", values) for number, values in enumerate(rows, 1)])
        if rows:
            _check_columns(list(rows[0]), name, table, location)
    elif str(table.file).endswith((".yaml", ".yml")):
        raw = _yaml(Path(location))
    elif str(table.file).endswith(".csv"):
        raw = _csv(Path(location), name, table)
    else:
        raise ContractError(f"{mapping}: {name}.file: {table.file}: neither .csv nor .yaml")
    for row_location, values in raw:
        named = values if table.columns is None else {our: values.get(their) for our, their in table.columns.items()}
        stripped = {key: value.strip() if isinstance(value, str) else value for key, value in named.items()}
        yield RawRow(row_location, {key: value for key, value in stripped.items() if value not in (None, "")})


def _csv(path: Path, name: str, table: MasterTable[Any]) -> Iterator[RawRow]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=table.delimiter, strict=True)
            header = list(reader.fieldnames or [])
            _check_columns(header, name, table, f"{path}:1")
            for row in reader:
                location = f"{path}:{reader.line_num}"
                if None in row or None in row.values():
                    raise ContractError(
                        f"{location}: not {len(header)} columns, as the first line has; quote values that contain "
                        f"{table.delimiter!r}"
                    )
                yield RawRow(location, row)
    except OSError as error:
        raise ContractError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ContractError(f"{path}: not UTF-8 text; export it as UTF-8") from None
    except csv.Error as error:
        raise ContractError(f"{path}: not a CSV file: {error}") from None


def _check_columns(header: list[str], name: str, table: MasterTable[Any], location: str) -> None:
    """Raise ContractError if a column is missing, occurs twice, or has an unknown name."""
    fields = ROWS[name].model_fields
    if table.columns is not None:
        unknown = sorted(table.columns.keys() - fields.keys())
        if unknown:
            raise ContractError(
                f"{location}: {name}.columns: there is no {', '.join(unknown)}; there are {', '.join(fields)}"
            )
    read = list(table.columns.values()) if table.columns is not None else header
    twice = sorted({column for column in read if header.count(column) > 1})
    missing = [column for column in read if column not in header]
    needed = [field for field, info in fields.items() if info.is_required()]
    missing += [field for field in needed if field not in (table.columns if table.columns is not None else header)]
    unknown = sorted(set(header) - fields.keys()) if table.columns is None else []
    for kind, columns in (
        ("is missing", missing),
        ("occurs twice", twice),
        (f"is not one of {', '.join(fields)}", unknown),
    ):
        if columns:
            advice = "; name the columns to read with `columns: {our name: its name}`" if columns is not twice else ""
            raise ContractError(f"{location}: column {', '.join(map(repr, columns))} {kind}{advice}")


def _yaml(path: Path) -> Iterator[RawRow]:
    listed, root = parse_yaml(path)
    if not isinstance(root, yaml.SequenceNode):
        raise ContractError(f"{path}:1: a table is a list of rows: `- {{name: value, …}}`")
    for node, row in zip(root.value, listed, strict=True):
        location = f"{path}:{node.start_mark.line + 1}"
        if not isinstance(row, dict):
            raise ContractError(f"{location}: a row is `{{name: value, …}}`")
        yield RawRow(location, {str(name): value for name, value in row.items()})


def _query(sql: TableQuery, query: str, mapping: Path, database: QueryDatabase) -> list[dict[str, Any]]:
    url, password = (database.url, database.password) if sql.url is None else (sql.url, _secret(sql, mapping))
    try:
        return queries.rows(url, query, password=password)
    except SinkMisconfigured as error:
        raise ContractError(f"{mapping}: sql: {error}") from None


def _secret(sql: TableQuery, mapping: Path) -> str | None:
    if sql.password_file is None:
        return None
    try:
        return (mapping.parent / sql.password_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ContractError(f"{mapping}: sql.password_file: {sql.password_file}: {error.strerror}") from None
