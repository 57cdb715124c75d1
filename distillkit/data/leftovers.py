"""Files of shards and recipes that params.yaml no longer names. They are moved, because DVC hashes whole folders."""

import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from distillkit.base.params import audited, entries, shards_of
from distillkit.process.progress import tell

LEFT_OVER = Path(".distillkit/left-over")
MADE = {".csv", ".json", ".safetensors"}  # types of the files that stages write; other files stay
FOLDERS = {
    "expert_shards": ("artifacts/experts",),
    "recipes": ("artifacts/distilled", "artifacts/loss", "artifacts/training", "artifacts/confusion", "metrics"),
    "audit": ("metrics/audit",),  # files of recipes that are no longer audited
}


def stems(data: Mapping[str, Any], name: str) -> list[str]:
    """File names, without suffix, of the shards, recipes or audits in section ``name`` of params.yaml."""
    if name == "audit":
        return audited(data)
    if name == "expert_shards":
        return [f"shard-{shard}" for shard in shards_of(data)]
    return list(entries(data, name))


def unnamed(folder: Path, wanted: Collection[str]) -> Iterator[Path]:
    """Yield the files in ``folder`` that have a suffix in ``MADE`` and a name that is not in ``wanted``.

    Hidden files, and files in hidden folders, are left out.
    """
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix in MADE and path.stem not in wanted and not hidden and not path.is_dir():
            yield path


def set_aside(folder: Path, wanted: Collection[str]) -> None:
    """Move the :func:`unnamed` files of ``folder`` to the same path in ``LEFT_OVER``, and print each move."""
    for path in list(unnamed(folder, wanted)):
        target = LEFT_OVER / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
        tell(f"{path} is of nothing that params.yaml names; moved to {target}")
