"""The images to test a finished set on: those of its source, the project's own, or those that the user names.

A set that other people made can name a source that anyone can fetch, and nothing on this machine.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from distillkit.base import params
from distillkit.base.arguments import check_test
from distillkit.base.errors import ArtifactError, DistillkitError, ParamsError, SourceError
from distillkit.base.files import canonical_json
from distillkit.base.references import parse_reference
from distillkit.data.files.real_images import load_real, real_file
from distillkit.data.images import ImageSet, RealData, SyntheticSet
from distillkit.package.manifest import printable
from distillkit.package.recipe_json import digest
from distillkit.process.progress import tell, track
from distillkit.sources.cleaning.noise import LabelFile
from distillkit.sources.fetch import ChannelWise, DataSpec, fetch
from distillkit.sources.readers import DigitsSource, FolderSource, HuggingFaceSource, Source, TorchvisionSource


def held_out_images(
    path: Path, synthetic: SyntheticSet, provenance: Mapping[str, Any], given: Path | None, tested: str | None = None
) -> ImageSet:
    """The test split for the set at ``path``; see :func:`source_images`.

    If the source is not available, the project's own images are used, but only those with the digest ``tested``, or
    without a digest those of the recorded source.
    """
    try:
        return source_images(path, synthetic, provenance, given, labels=False).test
    except DistillkitError:
        if given is not None or (found := project_images(path, provenance.get("source"), tested)) is None:
            raise
        return found


def project_images(path: Path, source: Any, tested: str | None) -> ImageSet | None:
    """The test images in artifacts/real, of this folder or of the pipeline that ``path`` lies in, that match."""
    pipelines = [parent for parent in path.resolve().parents if parent.name == "artifacts"]
    for place in (Path("artifacts/real"), *(folder / "real" for folder in pipelines)):
        with suppress(DistillkitError):
            if not real_file(place).is_file():
                continue
            real = load_real(place)
            if tested is not None and digest(real.test) == tested:
                found = "exactly those of the claim"
            elif tested is None and json.loads(canonical_json(asdict(real.info))) == source:
                found = "of the source that the set records"
            else:
                continue
            tell(f"test images: {os.path.relpath(place)}, {found}")
            return real.test
    return None


def source_images(
    path: Path, synthetic: SyntheticSet, provenance: Mapping[str, Any], given: Path | None, labels: bool = True
) -> RealData:
    """The images that the set at ``path`` was made from: from a real.safetensors, or fetched as the set records it.

    They are normalised by channel; the set has its own normalisation. Without ``labels``, training labels are the
    source's, without noise. ``given`` is such a file, or the folder of the recorded source on this machine. Raises
    ParamsError when it does not fit, ArtifactError when no source is recorded, and SourceError when the source is not
    available, or when it is a path on this machine that only the package names.
    """
    check_test(given)
    if given is not None and real_file(given).is_file():
        return load_real(given)
    spec, revision = recorded_source(path, synthetic, provenance)
    source = fetchable(path, spec.source, revision) if given is None else in_folder(spec.source, given)
    noise = spec.label_noise if labels else None
    if isinstance(noise, LabelFile):
        file = printable(noise.file)
        found = f"{path} was made with training labels from the file '{file}', which only its maker has"
        raise SourceError(f"{found}; expected a real.safetensors with these labels; give it in place of the source")
    try:
        return fetch(replace(spec, source=source, normalisation=ChannelWise(), label_noise=noise), track)
    except SourceError as error:
        raise SourceError(f"{error}; or name the source's folder here, or a real.safetensors, with --test") from None


def recorded_source(path: Path, synthetic: SyntheticSet, provenance: Mapping[str, Any]) -> tuple[DataSpec, str | None]:
    """The source that the artifact at ``path`` records, and its revision. Raises ArtifactError or SourceError."""
    source = provenance.get("source")
    if isinstance(source, Mapping) and source.get("kind") == "python":
        raise SourceError(
            f"{path} was made from images in Python, {printable(str(source.get('id')))}, which nobody else can fetch; "
            "expected a real.safetensors with the test split, as data.save writes it; give it with --test"
        )
    if not isinstance(source, Mapping) or "params" not in source:
        expected = "expected one to fetch test images from; name them, such as --test artifacts/real"
        raise ArtifactError(f"{path} does not record its source; {expected}")
    try:
        spec = params.read(source["params"], DataSpec, "provenance.source.params", path)
    except (ValueError, OverflowError, RecursionError):  # values that the message cannot contain
        raise ArtifactError(f"the source that {path} records cannot be read; give --test") from None
    shape = tuple(synthetic.images.shape[2:])
    if spec.size not in (None, shape):
        found = f"{path} records images of size {spec.size}, but has images of {shape}"
        raise ArtifactError(f"{found}; expected the same; give a real.safetensors with --test")
    revision = source.get("revision")
    return spec, revision if isinstance(revision, str) and revision else None


def fetchable(path: Path, source: Source, revision: str | None) -> Source:
    """The recorded source at the recorded revision, if any machine can fetch it. Raises SourceError otherwise."""
    match source:
        case DigitsSource():
            tell("test images: scikit-learn's digits")
            return source
        case TorchvisionSource(name=name):
            found = TorchvisionSource(name=name)
            tell(f"test images: torchvision's {name}, fetched to {found.root} if they are not there yet")
            return found
        case HuggingFaceSource(id=id) if is_on_hub(id, source.revision or revision):
            pinned = source.revision or revision
            tell(f"test images: dataset {id} of the Hub" + (f" at {pinned}" if pinned else ""))
            return replace(source, revision=pinned)
    where = source.path if isinstance(source, FolderSource) else source.id
    elsewhere = f"{path} was made from {source.kind} '{printable(where)}', which is on the machine that made it"
    raise SourceError(f"{elsewhere}; expected the source's folder here, or a real.safetensors; give it with --test")


def is_on_hub(id: str, revision: str | None) -> bool:
    """Whether ``datasets`` reads ``id`` as owner/name on the Hub, and not as a path on this machine."""
    try:
        reference = parse_reference(f"{id}@{revision}" if revision else id)
    except ParamsError:
        return False
    return reference.repo == id and not Path(id).exists()


def in_folder(source: Source, folder: Path) -> Source:
    """The recorded source, located in ``folder``. Raises ParamsError for a source that has no folder."""
    match source:
        case HuggingFaceSource():
            return replace(source, id=str(folder), revision=None)
        case TorchvisionSource(name=name):
            return TorchvisionSource(name=name, root=str(folder), download=False)
        case FolderSource():
            return replace(source, path=str(folder))
        case DigitsSource():
            raise ParamsError(f"--test is {folder}, but source {source.kind} needs no folder; drop --test")
