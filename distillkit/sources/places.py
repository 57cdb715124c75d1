"""The name of a dataset's row in messages: the line of a table, the image's file, or its number. What is missing."""

import csv
import re
from collections.abc import Callable, Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from distillkit.base.errors import SourceError
from distillkit.sources.folders import METADATA
from distillkit.sources.own_files import IN_ARCHIVE, Home, own_file
from distillkit.sources.pictures import MOST_NAMED, BrokenImageError, check_readable, unreadable

TABLES = (".csv", ".jsonl")  # files in which a row is a line
SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)(\.\w+)")  # how datasets and the Hub name the files of a split


class Cells(NamedTuple):
    """For every row, whether its encoded image is embedded, and otherwise the path of its file."""

    embedded: Sequence[bool]
    paths: Sequence[str | None]


def cells_of(column: Any) -> Cells:
    """The cells of an Arrow ``column`` of structs of bytes and a path."""
    import pyarrow.compute as pc

    embedded = pc.is_valid(pc.struct_field(column, "bytes"))
    return Cells(embedded.to_pylist(), pc.if_else(embedded, None, pc.struct_field(column, "path")).to_pylist())


def place_namer(split: str, files: Collection[str], cells: Cells, home: Home) -> Callable[[int], str]:
    """A function from rows of a split, which was read from ``files``, to their names."""
    named, own = [Path(file) for file in files], frozenset(files)
    tables = [file for file in named if file.name in METADATA] or named
    if not all(table.suffix in TABLES and table.is_file() for table in tables):
        tables = []

    def name(row: int) -> str:
        left = row
        for table in tables:
            if left < len(lines := line_numbers(table)):
                return f"{relative(table, home)} line {lines[left]}"
            left -= len(lines)
        path = cells.paths[row]
        return f"{split} row {row}" if path is None or path not in own else relative(Path(path), home)

    return name


def relative(path: Path, home: Home) -> str:
    return (path.relative_to(home.places[0]) if path.is_relative_to(home.places[0]) else path).as_posix()


@cache
def line_numbers(table: Path) -> list[int]:
    """For each row of a CSV file with a header or a JSON Lines file, the number of its last line, from 1."""
    with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        if table.suffix == ".jsonl":
            return [number for number, line in enumerate(file, 1) if line.strip()]
        reader = csv.reader(file)
        return [reader.line_num for row in reader if row][1:]


def check_present(cells: Cells, home: Home, where: Callable[[int], str]) -> None:
    """Raise SourceError for rows without an encoded image or a file of the dataset."""
    broken: list[BrokenImageError] = []
    for row, (embedded, path) in enumerate(zip(cells.embedded, cells.paths, strict=True)):
        try:
            if not embedded:
                check_path(path, home)
        except SourceError as error:
            broken.append(unreadable(where(row), error))
            if len(broken) == MOST_NAMED:
                break
    check_readable(broken)


def check_path(path: str | None, home: Home) -> None:
    if path is None:
        raise SourceError("it names no image")
    archived = IN_ARCHIVE.fullmatch(path)
    own_file(archived["archive"] if archived else path, home)


def check_complete(files: Sequence[str]) -> None:
    """Raise SourceError where one of the numbered files of a split, as in train-00000-of-00002.parquet, is missing."""
    known = {match[0]: match for file in files if (match := SHARD.fullmatch(Path(file).name))}
    for match in known.values():
        stem, _, last, suffix = match.groups()
        for number in range(int(last)):
            if (name := f"{stem}-{number:0{len(last)}}-of-{last}{suffix}") not in known:
                raise SourceError(f"{name} is missing, found {match[0]}; expected all {int(last)} files; restore it")
