"""What params.yaml does not name: files of removed shards and recipes, which no folder that is hashed may hold."""

import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from distillkit.base.params import audited, entries, shards_of
from distillkit.process.progress import tell

LEFT_OVER = Path(".distillkit/left-over")
MADE = {".csv", ".json", ".safetensors"}  # what stages write; other files in their folders are somebody's own
FOLDERS = {
    "expert_shards": ("artifacts/experts",),
    "recipes": ("artifacts/distilled", "artifacts/loss", "artifacts/training", "artifacts/confusion", "metrics"),
    "audit": ("metrics/audit",),  # of recipes that are there, but not audited any more
}


def stems(data: Mapping[str, Any], name: str) -> list[str]:
    """Names, without their endings, of the files of all shards, recipes or audits in section ``name``."""
    if name == "audit":
        return audited(data)
    if name == "expert_shards":
        return [f"shard-{shard}" for shard in shards_of(data)]
    return list(entries(data, name))


def unnamed(folder: Path, wanted: Collection[str]) -> Iterator[Path]:
    """Files in ``folder`` that a stage made for another name than those ``wanted``."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix in MADE and path.stem not in wanted and not hidden and not path.is_dir():
            yield path


def set_aside(folder: Path, wanted: Collection[str]) -> None:
    """Move what is :func:`unnamed` out of ``folder`` to the same path in ``LEFT_OVER``, and say so."""
    for path in list(unnamed(folder, wanted)):
        target = LEFT_OVER / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
        tell(f"{path} is of nothing that params.yaml names; moved to {target}")
