"""``hf://datasets/owner/name@revision/path`` as a DVC filesystem: a source to import from, and a remote."""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, ClassVar

from dvc_objects.fs.base import ObjectFileSystem
from fsspec.callbacks import DEFAULT_CALLBACK, Callback

from distillkit.hub.dvc.commits import Upload, add_files, delete_files, finish_all, queue_of
from distillkit.hub.dvc.files import HubFiles, RemoteError, errors_for_dvc, parse_place
from distillkit.hub.dvc.plugin import SCHEME, Gathering


class HubFileSystem(ObjectFileSystem):
    """The interface that DVC needs. HubFiles does the reading; writes are collected into few commits."""

    protocol = SCHEME
    REQUIRES: ClassVar[dict[str, str]] = {"huggingface_hub": "huggingface_hub"}
    PARAM_CHECKSUM: ClassVar[str | None] = "etag"
    _JOBS = 16

    def __init__(self, fs: HubFiles | None = None, **config: Any):
        super().__init__(**config)
        self.fs = fs or HubFiles()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix(f"{SCHEME}://").rstrip("/")

    def unstrip_protocol(self, path: str) -> str:
        return f"{SCHEME}://{path}"

    @staticmethod
    def _get_kwargs_from_urls(urlpath: str) -> dict[str, Any]:
        return {}

    def exists(
        self, path: str | list[str], callback: Callback = DEFAULT_CALLBACK, batch_size: int | None = None
    ) -> Any:
        """Whether the path exists, or a list for a list of paths, with few requests."""
        if isinstance(path, str):
            return self.fs.exists(path)
        found = self.fs.infos(path)
        return [each in found for each in callback.wrap(path)]

    def info(
        self,
        path: str | list[str],
        callback: Callback = DEFAULT_CALLBACK,
        batch_size: int | None = None,
        return_exceptions: bool = False,
        **options: Any,
    ) -> Any:
        """The entry of the path, or a list for a list of paths, with few requests."""
        if isinstance(path, str):
            return super().info(path, callback, batch_size, return_exceptions, **options)  # type: ignore[call-overload]
        found = self.fs.infos(path)
        if not return_exceptions and (missing := next((each for each in path if each not in found), None)):
            raise FileNotFoundError(f"hf://{missing} is not on the Hub")
        return [found.get(each, FileNotFoundError(each)) for each in callback.wrap(path)]

    def find(
        self, path: str | list[str], prefix: bool = False, batch_size: int | None = None, **options: Any
    ) -> Iterator[str]:
        """The files below the path. For many prefixes in one folder (a large remote), the folder is listed once."""
        if not isinstance(path, str) and len(path) > 1:
            self.fs.tree(self.commonpath(path))
        yield from super().find(path, prefix=prefix, batch_size=batch_size, **options)

    def get_file(self, from_info: str, to_info: str, callback: Callback = DEFAULT_CALLBACK, **options: Any) -> None:
        size = self.fs.fetch(from_info, to_info)
        callback.set_size(size)
        callback.relative_update(size)

    @errors_for_dvc()
    def put_file(
        self,
        from_file: str | IO[bytes],
        to_info: str,
        callback: Callback = DEFAULT_CALLBACK,
        size: int | None = None,
        **options: Any,
    ) -> None:
        """In a push, queue the file for one of the next commits; else upload it before returning."""
        place = parse_place(to_info)
        if place.path.endswith(".tmp"):
            raise RemoteError(f"{to_info}: hf:// does not support --to-remote; import or add it here, then push")
        source = from_file if isinstance(from_file, str) else from_file.read()
        size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
        upload = Upload(place.path, source, size)
        if Gathering.depth:
            queue_of(self.fs.api, place.repo, place.revision).gather(upload)
        else:
            add_files(self.fs.api, place.repo, place.revision, [upload])
        self.fs.invalidate_cache()
        callback.set_size(size)
        callback.relative_update(size)

    def rm_file(self, path: str) -> None:
        self.rm([path])

    @errors_for_dvc()
    def rm(self, path: str | list[str], recursive: bool = False, **options: Any) -> None:
        """Delete files, or with ``recursive`` everything below a folder, in few commits."""
        paths = [path] if isinstance(path, str) else path
        found = [name for each in paths for name in (self.fs.find(each) if recursive else [each])]
        branches: dict[tuple[str, str], list[str]] = {}
        for place in map(parse_place, found):
            branches.setdefault((place.repo, place.revision), []).append(place.path)
        for (repo, branch), names in branches.items():
            delete_files(self.fs.api, repo, branch, names)
        self.fs.invalidate_cache()

    remove = rm


Gathering.finish = staticmethod(errors_for_dvc()(finish_all))
