"""What is said of a dataset that the library ``datasets`` cannot load: one line of ours, and none of its own."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from distillkit.base.errors import SourceError
from distillkit.sources.folders import files_in
from distillkit.sources.pictures import brief


@contextmanager
def quiet() -> Iterator[list[str]]:
    """Collect the errors that datasets logs before it raises them; hide progress bars if stderr is not a terminal."""
    import datasets
    from huggingface_hub import utils

    logged: list[str] = []

    def is_shown(record: logging.LogRecord) -> bool:
        if is_error := record.levelno >= logging.ERROR:
            logged.append(record.getMessage())
        return not is_error

    shown = [library for library in (datasets, utils) if not library.are_progress_bars_disabled()]
    hidden = [] if sys.stderr.isatty() else shown
    handlers = logging.getLogger("datasets").handlers
    for library in hidden:
        library.disable_progress_bars()
    for handler in handlers:
        handler.addFilter(is_shown)
    try:
        yield logged
    finally:
        for library in hidden:
            library.enable_progress_bars()
        for handler in handlers:
            handler.removeFilter(is_shown)


def cannot_load(id: str, error: Exception, logged: Sequence[str] = ()) -> SourceError:
    """The error for a dataset that ``datasets`` cannot load. What it ``logged`` names the file, its error does not."""
    if type(error).__name__ == "DatasetGenerationError" and isinstance(error.__cause__, Exception):
        error = error.__cause__  # the cause has the useful message
    if Path(id).is_dir():
        if type(error).__name__ in ("EmptyDatasetError", "DataFilesNotFoundError"):
            expected = "expected folders of images, parquet or other data files; add some, or name another folder"
            return SourceError(f"{id} has no images or data files; {expected}")
        if (broken := broken_parquet(Path(id), error)) is not None:
            return broken
        expected = "expected a folder of images, parquet or other data files; check them and data.source.config"
    else:
        expected = "expected a folder or a dataset of the Hub; check data.source.id, data.source.config and the "
        expected += "connection, or run `hf auth login` if it is private or gated"
    reason = brief(SourceError(logged[-1]) if logged else error)
    return SourceError(f"{id!r} cannot be loaded ({reason}); {expected}")


def broken_parquet(folder: Path, error: Exception) -> SourceError | None:
    """The error for a parquet file in ``folder`` that is cut off, damaged or empty, where ``error`` can come of one."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    def is_damage(error: Exception) -> bool:
        return isinstance(error, ArrowException) or (isinstance(error, OSError) and error.errno is None)

    paths = [folder / file for file in files_in(folder).kept if file.suffix == ".parquet"]
    for whole in (False, True) if is_damage(error) or "corresponds to no data" in str(error) else ():
        for path in paths:
            try:
                file = ParquetFile(path)
                if not file.metadata.num_rows:
                    return SourceError(f"{path} has no rows; expected images and labels; restore or remove it")
                for _ in file.iter_batches(batch_size=1000) if whole else ():
                    pass
            except Exception as found:
                if is_damage(found):
                    size = f"{path.stat().st_size:,} bytes"
                    return SourceError(f"{path} is cut off or damaged ({size}); expected a parquet file; restore it")
    return None
