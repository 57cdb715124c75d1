"""Sign-offs beside a published package: files that no manifest lists, so each is small JSON or a signature, or left."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from distillkit.base.errors import HubError
from distillkit.hub.client import is_offline, listing, sums_of
from distillkit.hub.errors import patiently
from distillkit.hub.pull import download
from distillkit.package.folders import SIGN_OFF, SIGN_OFFS
from distillkit.package.sign_offs import LARGEST, MOST

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def fetch_sign_offs(api: "HfApi", repo: str, commit: str, folder: Path, cache: Path | None = None) -> list[str]:
    """Put the sign-offs of a commit into the package in ``folder``, and return their paths in it; offline, none.

    Raises HubError when one comes with other bytes than the Hub lists.
    """
    if is_offline():
        return []
    entries = patiently(lambda: listing(api, repo, commit))
    names = [name for name, entry in entries.items() if is_sign_off(name) and entry.size <= LARGEST]
    for name in (found := sorted(names)[: 2 * MOST]):
        path = download(api, repo, name, commit, cache)
        if not sums_of(path).equal(entries[name]):
            raise HubError(f"{repo} sent a damaged {name}; try again later", transient=True)
        (folder / SIGN_OFFS).mkdir(exist_ok=True)
        shutil.copyfile(path, folder / name)
    return found


def is_sign_off(name: str) -> bool:
    folder, slash, file = name.partition("/")
    return folder == SIGN_OFFS and bool(slash) and SIGN_OFF.fullmatch(file) is not None
