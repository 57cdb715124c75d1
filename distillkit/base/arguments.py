"""Checks of the command line that run before any slow import, so that mistakes are reported immediately. The contents
of files are checked where they are read.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from distillkit.base import params
from distillkit.base.errors import ArtifactError, ParamsError, SourceError
from distillkit.base.names import hint
from distillkit.base.references import COMMIT, MAIN, Reference, parse_reference

Numbers = tuple[float, ...]
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
STATISTICS: dict[str, tuple[Numbers, Numbers]] = {
    # get_dataset of utils.py in VICO-UoE/DatasetCondensation (DC, DSA, DM) and in MTT's repository
    "cifar10": CIFAR10,
    "cifar100-dc": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "cifar100-mtt": CIFAR10,  # sic: MTT, and DC before it changed, normalise CIFAR-100 with CIFAR-10's
    "fashion-mnist": ((0.2861,), (0.3530,)),
    "imagenet": IMAGENET,
    "mnist": ((0.1307,), (0.3081,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "tiny-imagenet": IMAGENET,
}
OFFERED = (  # the methods that init offers; it always adds full
    *("random", "confident", "herding", "k-centre", "moderate", "kmeans", "average", "optimised", "window"),
    *("mtt", "att", "selmatch", "ccs", "dual", "rded", "dm", "dc", "dsa"),
)
KINDS = "a .pt file that torch.save wrote, .npz, or safetensors"
PICTURES = "a folder of images or parquet, a .parquet file, or owner/name@revision on the Hub"
ARTIFACT = (
    "an artifact, such as artifacts/real; name one. For a folder of images, "
    "distillkit init --dry-run --dataset FOLDER lists the contents"
)
SPECS = "digits, a folder, owner/name of the Hub, torchvision:Name, or folder:PATH where folders name the classes"
RESOLVE = "keep what you need of both, without the marker lines"  # of a merge conflict
TAG = re.compile(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*")
NO_TAGS = re.compile(rf"{MAIN}|HEAD|.*\.lock|{COMMIT.pattern}")  # Git or people would read these as something else

# Files and folders


def check_artifact(path: Path) -> None:
    """Raise ArtifactError if ``path`` cannot be an artifact or a package."""
    if not path.exists():
        expected = "expected a package or an artifact; correct the path, or run its stage"
        raise ArtifactError(f"{path} does not exist; {expected}")
    if path.is_dir() and not any((path / name).is_file() for name in ("manifest.json", "real.safetensors")):
        raise ArtifactError(f"{path} has no manifest.json; expected a packaged folder or {ARTIFACT}")
    if path.is_file() and path.suffix != ".safetensors" and not looks_like_safetensors(path):
        raise ArtifactError(f"{path} is no .safetensors file; expected {ARTIFACT}")


def looks_like_safetensors(path: Path) -> bool:
    """Whether the file's 9th byte is ``{``: there the JSON header of a safetensors file begins."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def check_new_artifact(name: str, out: Path, overwrite: bool) -> None:
    """Raise ParamsError or ArtifactError unless a new artifact can be written to ``out``, the value of option
    ``name``.
    """
    if out.suffix != ".safetensors":
        raise ParamsError(f"{name} is {out}; expected a file name that ends in .safetensors")
    if out.exists() and not overwrite:
        raise ArtifactError(f"{out} exists; expected a new file; choose another name, or say --overwrite")


def check_package_folder(folder: Path) -> None:
    """Raise ArtifactError unless ``folder`` is a folder, which may contain a package."""
    if not folder.is_dir():
        raise ArtifactError(
            f"{folder} is no folder; expected a package, as the package stage leaves it; check the path"
        )


def check_folder(folder: Path) -> None:
    """Raise ParamsError unless ``folder`` is a folder, which may contain a pipeline."""
    if not folder.is_dir():
        found = "is no folder" if folder.exists() else "does not exist"
        raise ParamsError(f"{folder} {found}; expected the folder that holds dvc.yaml; name that")


def check_test(path: Path | None, option: str = "--test") -> None:
    """Raise ParamsError if ``path`` is given and does not exist. ``option`` is the option that gave it."""
    if path is not None and not path.exists():
        expected = "a real.safetensors with the test split, or the source's folder here"
        raise ParamsError(f"{option} is {path}, which does not exist; expected {expected}; correct {option}")


def check_params_file(path: Path) -> None:
    """Raise ParamsError unless ``path``, the value of --params, is a file."""
    if not path.is_file():
        found = "which is a folder" if path.is_dir() else "which does not exist"
        raise ParamsError(f"--params is {path}, {found}; expected a params.yaml with a section evaluation; correct it")


def check_sign_off(path: Path | None, by: str | None) -> None:
    """Raise ParamsError or ArtifactError unless ``path`` and ``by`` are both None, or a sign-off by ``by`` can be
    written.
    """
    if path is None and by is None:
        return
    if path is None or not by or not by.isprintable() or len(by) > 200:
        expected = "expected --sign-off FILE.json with --by, the name or account of who verifies"
        found = f"--sign-off is {path or 'missing'}, --by is {'missing' if by is None else repr(by)}"
        raise ParamsError(f"{found}; {expected}; give both")
    if path.suffix != ".json":
        raise ParamsError(f"--sign-off is {path}; expected a file name that ends in .json")
    if path.exists():
        raise ArtifactError(f"{path} exists; expected a new file; choose another name")


def check_generator(folder: Path) -> None:
    """Raise ArtifactError unless ``folder`` has a generator.json."""
    if not (path := folder / "generator.json").exists():
        raise ArtifactError(f"{path} does not exist; expected a folder that distillkit generator wrote; name another")


def check_new_folder(folder: Path) -> None:
    """Raise ParamsError if ``folder`` exists."""
    if folder.is_symlink() or folder.exists():
        raise ParamsError(f"{folder} is there already; expected the name of a new folder; choose another or remove it")


def check_foreign(path: Path) -> None:
    """Raise SourceError unless ``path`` is a file, which may contain other people's tensors."""
    if path.is_dir():
        raise SourceError(f"{path} is a folder; expected {KINDS}; name the files in it, or the folder alone")
    if not path.is_file():
        raise SourceError(f"{path} does not exist; expected {KINDS}, or {PICTURES}; correct the path")


def holds_pictures(texts: Sequence[str]) -> bool:
    """Whether the arguments of ``import`` name one source of images and labels; if False, all are files of tensors.

    Raises SourceError when they are neither.
    """
    if len(texts) == 1 and (Path(texts[0]).is_dir() or Path(texts[0]).suffix == ".parquet"):
        if not Path(texts[0]).exists():
            raise SourceError(f"{texts[0]} does not exist; expected {PICTURES}; correct the path")
        return True
    if len(texts) == 1 and not Path(texts[0]).exists() and Path(texts[0]).suffix not in (".pt", ".npz", ".safetensors"):
        try:
            parse_reference(texts[0])
        except ParamsError:
            pass  # not a reference either: check_foreign reports the wrong path
        else:
            return True
    for text in texts:
        check_foreign(Path(text))
    return False


# The Hub


def package_reference(text: str) -> Reference | None:
    """The Hub repository that ``text`` names, or None if ``text`` is a path that exists. Raises ParamsError for
    neither.
    """
    if Path(text).exists():
        if is_pipeline(Path(text)):
            expected = f"expected a package; name the one in {Path(text) / 'artifacts/hub'}"
            raise ArtifactError(f"{text} is the folder of a pipeline; {expected}")
        return None
    try:
        return parse_reference(text)
    except ParamsError:
        raise ParamsError(f"{text} is no path here and no owner/name of the Hub; expected a package") from None


def artifact_called(name: str) -> Path | None:
    """The artifact of the recipe ``name`` of the pipeline in this folder, if it is there and no path has that name."""
    artifact = Path("artifacts/distilled", f"{name}.safetensors")
    return artifact if "/" not in name and not Path(name).exists() and artifact.is_file() else None


def set_reference(text: str) -> str:
    """``text``; for a recipe of the pipeline in this folder, the path of its artifact. Raises as
    :func:`package_reference`.
    """
    if (artifact := artifact_called(text)) is not None:
        return str(artifact)
    if Path(text).exists() or "/" in text:
        package_reference(text)
        return text
    known = sorted(path.stem for path in Path("artifacts/distilled").glob("*.safetensors"))
    here = f", or one of {', '.join(known)}" if known else ", or, in a pipeline's folder, a recipe"
    raise ParamsError(f"{text} is no path here{hint(text, known)}; expected an artifact, a package{here}")


def push_target(repo: str, tag: str | None) -> str:
    """The name of the repository to push to. Raises ParamsError if a push cannot use ``repo`` or ``tag``."""
    reference = parse_reference(repo)
    if reference.revision is not None:
        raise ParamsError(f"push makes a new commit of {reference.repo}; drop @{reference.revision}, or use --tag")
    if tag is not None and (not TAG.fullmatch(tag) or NO_TAGS.fullmatch(tag)):
        expected = "a name such as v1.0: letters and digits, single '.', '-' and '_' between them"
        raise ParamsError(f"tag is {tag!r}; expected {expected}")
    return reference.repo


# distillkit repro


def check_pipelines(targets: Iterable[str]) -> None:
    """Raise ParamsError for errors in params.yaml that DVC's own messages do not explain."""
    files = (Path(target.partition(":")[0]) for target in targets or ("dvc.yaml",))
    for folder in {file.parent if file.suffix in (".yaml", ".yml") else Path() for file in files}:
        if (folder / params.FILE).is_file() and is_pipeline(folder):
            if line := conflict(file := folder / params.FILE):
                raise ParamsError(f"{file} has a merge conflict at line {line}; {RESOLVE}")
            data = params.load(file)
            params.shards_of(data)
            params.entries(data, "recipes")


def conflict(file: Path) -> int:
    """The line, from 1, where Git left a merge conflict in a file; 0 if there is none, or no such file."""
    lines = file.read_bytes().splitlines() if file.is_file() else ()
    return next((number for number, line in enumerate(lines, 1) if line.startswith(b"<<<<<<< ")), 0)


def is_pipeline(folder: Path) -> bool:
    """Whether ``folder`` has a dvc.yaml of distillkit."""
    try:
        return "artifacts/hub/" in (folder / "dvc.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


# distillkit init


def check_methods(methods: Iterable[str]) -> None:
    """Raise ParamsError for a method that ``init`` does not offer."""
    for method in methods:
        if method in ("ccfs", "dd", "diffusion", "imported"):
            raise ParamsError(f"--method is {method!r}, which needs numbers of your own; add it later (docs/methods)")
        if method not in OFFERED:
            expected = f"expected some of {', '.join(OFFERED)}; full is always there"
            raise ParamsError(f"--method is {method!r}{hint(method, OFFERED)}; {expected}")


def check_dataset(text: str) -> None:
    """Raise ParamsError unless ``text`` can name a dataset."""
    folder = Path(text.removeprefix("folder:")).expanduser()
    if text != "digits" and not text.startswith("torchvision:") and not folder.is_dir():
        dataset_reference(text)


def dataset_reference(text: str) -> Reference:
    """The dataset repository on the Hub that ``text`` names. Raises ParamsError when ``text`` is not such a name."""
    try:
        return parse_reference(text)
    except ParamsError:
        raise ParamsError(f"--dataset is {text!r}, which is no folder here; expected {SPECS}") from None


# distillkit import


def statistics_numbers(text: str) -> tuple[Numbers, Numbers]:
    """Mean and standard deviation of each channel, from a name in ``STATISTICS`` or a text like
    ``0.5,0.5,0.4/0.2,0.2,0.2``.

    Raises ParamsError when the text is neither.
    """
    if text in STATISTICS:
        return STATISTICS[text]
    wrong = f"statistics are {text!r}{hint(text, STATISTICS)}; expected {', '.join(STATISTICS)}, or mean/std"
    try:
        means, stds = (tuple(float(number) for number in part.split(",")) for part in text.split("/"))
    except ValueError:
        raise ParamsError(f"{wrong} such as 0.49,0.48,0.45/0.25,0.24,0.26") from None
    finite = all(abs(number) < float("inf") for number in (*means, *stds))  # and no nan
    if len(means) != len(stds) or not finite or min(stds) <= 0:
        raise ParamsError(f"{wrong}, as many numbers before the slash as behind it, those behind it above 0")
    return means, stds


def classes_named(text: str) -> tuple[str, ...]:
    """Class names in order, from a text file with one name per line or from a list with commas.

    Raises SourceError for a file that is not UTF-8, and ParamsError for a text that is neither a file nor a list.
    """
    path = Path(text)
    if path.is_file():
        try:
            return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        except UnicodeDecodeError:
            raise SourceError(f"{path} is no UTF-8 text; expected one class name per line; write it again") from None
    if "," not in text:
        raise ParamsError(f"classes are {text!r}, which is no file; expected a text file, or names with commas between")
    return tuple(name.strip() for name in text.split(","))
