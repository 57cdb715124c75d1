"""The name of a dataset's row in messages: its file with the line or row, or the image's own file. A missing file."""

import csv
import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from distillkit.base.errors import SourceError
from distillkit.sources.folders import METADATA
from distillkit.sources.own_files import Home, file_at
from distillkit.sources.pictures import BrokenImageError, unreadable

KINDS = {".csv": "line", ".jsonl": "line", ".parquet": "row"}  # files of which a part is a row of the dataset
SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)(\.\w+)")  # how datasets and the Hub name the files of a split


def place_namer(split: str, files: Collection[str], column: Any, home: Home) -> Callable[[int], str]:
    """A function from rows of a split, which was read from ``files``, to their names. ``column`` has its images."""
    own, tables = frozenset(files), [Path(file) for file in files]
    tables = [file for file in tables if file.name in METADATA] or tables
    if not all(table.suffix in KINDS and table.is_file() for table in tables):
        tables = []
    parts = [(f"{relative(table, home)} {KINDS[table.suffix]}", numbers(table)) for table in tables]
    starts = [0, *accumulate(len(rows) for _, rows in parts)]

    def name(row: int) -> str:
        if row < starts[-1]:
            place, rows = parts[number := bisect_right(starts, row) - 1]
            return f"{place} {rows[row - starts[number]]}"
        path = None if column[row]["bytes"].is_valid else column[row]["path"].as_py()
        return relative(Path(path), home) if path in own else f"{split} row {row}"

    return name


def absent(column: Any, home: Home, where: Callable[[int], str]) -> Iterator[BrokenImageError]:
    """Rows without an encoded image and without a file of the dataset."""
    import pyarrow.compute as pc

    paths = pc.struct_field(column, "path")
    for row in pc.indices_nonzero(pc.is_null(pc.struct_field(column, "bytes"))).to_pylist():
        try:
            file_at(paths[row].as_py(), home)
        except SourceError as error:
            yield unreadable(where(row), error)


def relative(path: Path, home: Home) -> str:
    return (path.relative_to(home.places[0]) if path.is_relative_to(home.places[0]) else path).as_posix()


@cache
def numbers(table: Path) -> Sequence[int]:
    """For each row of a file its number: from 0 in parquet; else its last line, from 1."""
    if table.suffix == ".parquet":
        from pyarrow.parquet import read_metadata

        return range(read_metadata(table).num_rows)
    with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        if table.suffix == ".jsonl":
            return [number for number, line in enumerate(file, 1) if line.strip()]
        reader = csv.reader(file)
        return [reader.line_num for row in reader if row][1:]


def check_complete(files: Sequence[str]) -> None:
    """Raise SourceError where one of the numbered files of a split, as in train-00000-of-00002.parquet, is missing."""
    known = {match[0]: match for file in files if (match := SHARD.fullmatch(Path(file).name))}
    for match in known.values():
        stem, _, last, suffix = match.groups()
        for number in range(int(last)):
            if (name := f"{stem}-{number:0{len(last)}}-of-{last}{suffix}") not in known:
                raise SourceError(f"{name} is missing, found {match[0]}; expected all {int(last)} files; restore it")
