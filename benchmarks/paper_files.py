"""What ``paper_scale.py`` reads, keeps and reports: preset and raw images; its arguments; accuracies beside published.

    python benchmarks/paper_files.py DATA images.npz

packs a Hugging Face image dataset (a folder or an id) into one file of its encoded images, as they are: 53 MiB for a
JPEG copy of CIFAR-10. The pack needs neither ``datasets`` nor the network to be read, and nothing in it is unpickled.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints
from zipfile import BadZipFile

import click
import numpy as np
import yaml
from record import aligned

from distillkit.base.errors import ParamsError, SourceError
from distillkit.base.files import atomic_write, canonical_json, pretty_json, write_text
from distillkit.data.files.real_images import load_real
from distillkit.data.images import ImageSet, RealData, channel_statistics
from distillkit.data.origin import SourceInfo
from distillkit.matching.distillation import Optim
from distillkit.matching.method import Selection
from distillkit.methods import METHODS
from distillkit.process.command import run
from distillkit.process.progress import tell, track
from distillkit.sources.decoding import Reading, decode
from distillkit.sources.fetch import DataSpec, check_classes, fetch
from distillkit.sources.pictures import brief, open_picture
from distillkit.sources.readers import DigitsSource, HuggingFaceSource, Split, labelled

SPLITS = ("train", "test")
SECTIONS = ("seed", "expert_shards", "experts", "score", "recipes", "evaluation")

# Accuracy in % and its deviation, CIFAR-10, ResNet18: Table 1 of SelMatch as reprinted by CCFS (CVPR 2025), by ipc.
# "window" is SelMatch's oracle window. Nothing is computed from these but differences.
PUBLISHED: dict[int, dict[str, tuple[float, float]]] = {
    250: {"random": (73.4, 1.5), "window": (79.3, 0.7), "mtt": (80.7, 0.4), "selmatch": (82.8, 0.2)},
    500: {"random": (79.3, 0.3), "window": (85.2, 0.1), "mtt": (82.2, 0.4), "selmatch": (85.9, 0.2)},
    1000: {"random": (85.6, 0.4), "window": (89.9, 0.5), "mtt": (86.1, 0.3), "selmatch": (90.4, 0.2)},
    1500: {"random": (88.3, 0.2), "window": (90.6, 0.3), "mtt": (88.6, 0.2), "selmatch": (91.3, 0.2)},
}
PUBLISHED_IMAGES = 50_000  # of CIFAR-10; for other images nothing is comparable
READINGS = {"window": "a fraction of the class", "window_of_ipc": "a fraction of ipc"}


class Entry(NamedTuple):
    """One set of the table: a method and, if it learns, the outer optimiser."""

    ipc: int | None
    kind: str
    method_name: str
    method: Selection
    optim: Optim | None


def read_preset(path: Path, changes: Sequence[str]) -> dict[str, Any]:
    """The preset as plain data, with ``a.b.c=value`` changes of entries below its sections."""
    try:
        preset = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ParamsError(f"{path.name} is not valid YAML ({brief(error)}); correct it") from None
    if lacking := [name for name in SECTIONS if not isinstance(preset, dict) or name not in preset]:
        raise ParamsError(f"{path.name} has no section {lacking[0]!r}; expected {', '.join(SECTIONS)}; name a preset")
    preset = json.loads(json.dumps(preset))  # YAML's anchors are one object each: a change of one must not change all
    for change in changes:
        key, equals, text = change.partition("=")
        *parents, last = key.split(".")
        section = preset
        for name in parents:
            section = section.get(name) if isinstance(section, dict) else None
        if not equals or not parents or not isinstance(section, dict):
            raise ParamsError(f"--set {change}: expected section.entry=value with a section of {path.name}; correct it")
        section[last] = yaml.safe_load(text)
    return dict(preset)


def build(kind: Any, value: Any, where: str) -> Any:
    """Plain data as settings of ``kind``: what ``distillkit.base.params`` does where pydantic is installed, in few
    words.
    """
    if is_dataclass(kind) and isinstance(kind, type):
        return build_settings(kind, value, where)
    if (options := get_args(kind)) and all(map(is_dataclass, options)):  # the first: presets use no networks of others
        return build_settings(options[0], value, where)
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(value)
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        value = number(value)  # YAML 1.1 takes 1e-3 for text
    expected = get_args(kind) if get_origin(kind) is Literal else None
    if (expected and value not in expected) or (isinstance(kind, type) and type(value) is not kind):
        wanted = ", ".join(map(str, expected)) if expected else kind.__name__
        raise ParamsError(f"{where} is {value!r}; expected {wanted}; correct it")
    return value


def build_settings(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise ParamsError(f"{where} is {value!r}; expected a section; correct it")
    hints = get_type_hints(kind)
    needed = {field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING}
    if wrong := sorted(value.keys() - hints.keys() | needed - value.keys()):
        raise ParamsError(f"{where}: {wrong[0]} is unknown or missing; expected {', '.join(hints)}; correct it")
    return kind(**{name: build(hints[name], item, f"{where}.{name}") for name, item in value.items()})


def number(value: int | str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return str(value)


def read_entries(preset: Mapping[str, Any], ipcs: Sequence[int], full: bool) -> dict[str, Entry]:
    """The preset's random, window, MTT and SelMatch sets of each size; windows also by the released code's reading."""
    entries: dict[str, Entry] = {}
    for ipc in ipcs:
        for kind in ("random", "window", "mtt", "selmatch"):
            name = f"{kind}-ipc{ipc}"
            entries[name] = entry = read_entry(preset, name, kind)
            if kind == "window":
                other = replace(entry.method, window_unit="ipc")  # type: ignore[type-var]
                entries[f"window-ipc{ipc}-unit-ipc"] = entry._replace(kind="window_of_ipc", method=other)
    return entries | ({"full": read_entry(preset, "full", "full")} if full else {})


def read_entry(preset: Mapping[str, Any], name: str, kind: str) -> Entry:
    params, where = preset["recipes"].get(name), f"recipes.{name}"
    if not isinstance(params, Mapping) or params.get("method") not in METHODS:
        found = ", ".join(preset["recipes"])
        raise ParamsError(f"the preset has no {where} with a known method; expected one of {found}; choose another ipc")
    rest = {key: value for key, value in params.items() if key not in ("method", "optim")}
    optim = build(Optim, params["optim"], f"{where}.optim") if "optim" in params else None
    method = build(METHODS[params["method"]], rest, where)
    return Entry(getattr(method, "ipc", None), kind, params["method"], method, optim)


def load_images(data: str) -> RealData:
    """Images from a pack (.npz), from artifacts/real.safetensors, of ``digits``, or of a dataset folder or id."""
    if data.endswith(".npz"):
        return read_pack(Path(data))
    if data.endswith(".safetensors"):
        return load_real(Path(data))
    if data != "digits" and "/" not in data and not Path(data).exists():
        raise SourceError(f"there is no {data!r} here; expected digits, a file, a folder or a Hub id (owner/name)")
    source = DigitsSource() if data == "digits" else HuggingFaceSource(id=data)
    try:
        return fetch(DataSpec(source), track)
    except ModuleNotFoundError as error:
        raise SourceError(
            f"{data!r} cannot be read without the package {error.name!r}; expected it, or a pack; "
            "make one with benchmarks/paper_files.py where it is installed"
        ) from None


def read_pack(path: Path) -> RealData:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        info, names = SourceInfo(**json.loads(str(arrays["source"]))), tuple(arrays["class_names"].tolist())
        splits = [packed_split(name, arrays, names) for name in SPLITS]
    except (AttributeError, KeyError, TypeError, ValueError, EOFError, BadZipFile) as error:
        raise SourceError(f"{path.name} is no pack of images ({brief(error)}); expected one; pack it again") from None
    check_classes(*splits)
    (train, *_), (test, *_) = decode(splits, Reading(None, 255, None, drop=False), track, {})
    train_set, test_set = ImageSet(train, splits[0].labels, names), ImageSet(test, splits[1].labels, names)
    return RealData(train_set, test_set, channel_statistics(train), info)


def packed_split(name: str, arrays: Mapping[str, np.ndarray], class_names: tuple[str, ...]) -> Split:
    encoded, ends, labels = (arrays[f"{name}_{part}"] for part in ("bytes", "ends", "labels"))
    if len(ends) != len(labels) or not len(ends) or ends[-1] != len(encoded):
        raise ValueError(f"{len(ends)} images and {len(labels)} labels in {len(encoded)} bytes of {name}")
    starts = np.concatenate([[0], ends[:-1]])
    return labelled(
        name,
        labels.tolist(),
        class_names,
        read=lambda row: open_picture(encoded[starts[row] : ends[row]].tobytes()),
    )


def digest(data: RealData) -> str:
    """SHA-256 of all pixels and labels, however they were stored."""
    found = hashlib.sha256()
    for part in (data.train, data.test):
        for tensor in (part.images, part.labels):
            found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def pack_dataset(data: str) -> dict[str, np.ndarray]:
    """The arrays of a pack: of each split the encoded images end to end, where each ends, and labels."""
    import datasets

    from distillkit.sources.huggingface import image_column, label_column, load_parts, open_huggingface

    source = HuggingFaceSource(id=data)
    opened, (parts, _) = open_huggingface(source), load_parts(data, None)
    arrays = {
        "source": np.array(canonical_json(asdict(opened.info))),
        "class_names": np.array(opened.train.class_names),
    }
    for name in SPLITS:
        if name not in parts:
            raise SourceError(f"{data!r} has no split {name!r}; expected train and test; choose another dataset")
        image, label = image_column(parts[name].features, None), label_column(parts[name].features, None)
        rows = parts[name].cast_column(image, datasets.Image(decode=False))
        images = [row["bytes"] for row in track(rows[image], f"packing {name} images", len(rows))]
        if None in images:
            raise SourceError(f"{data!r} holds paths, not images; expected parquet with the images' bytes; convert it")
        arrays[f"{name}_bytes"] = np.frombuffer(b"".join(images), np.uint8)
        arrays[f"{name}_ends"] = np.cumsum([len(image) for image in images])
        arrays[f"{name}_labels"] = np.array(parts[name][label][:], np.int64)
    return arrays


def write_pack(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def note(path: Path, value: Mapping[str, Any]) -> None:
    """What is known about the artifact at ``path``, beside it; written before it, so that a file is never without."""
    write_text(path.with_suffix(".json"), pretty_json(value))


def noted(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))


def settle(work: Path, arguments: Mapping[str, Any]) -> None:
    """Keep the arguments in ``work`` at the first run, and raise ParamsError when a later one has others."""
    path, plain = work / "arguments.json", json.loads(json.dumps(arguments))
    if not path.exists():
        if work.exists() and any(not entry.name.startswith(".") for entry in work.iterdir()):
            raise ParamsError(f"{work} holds other files; expected a new folder or one begun here; choose another")
        write_text(path, pretty_json(plain))
    begun, now = flat(json.loads(path.read_text(encoding="utf-8"))), flat(plain)
    if other := sorted(key for key in begun.keys() | now.keys() if begun.get(key) != now.get(key)):
        more = f" and {len(other) - 1} more differ" if len(other) > 1 else ""
        raise ParamsError(
            f"{work} was begun with {other[0]} {begun.get(other[0])!r}, now it is {now.get(other[0])!r}{more}; "
            "expected the same arguments; repeat them or choose another folder"
        )


def flat(value: Any, where: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted keys."""
    if not isinstance(value, Mapping):
        return {where: value}
    return {key: item for name, part in value.items() for key, item in flat(part, f"{where}.{name}".strip(".")).items()}


def report(found: Mapping[str, Any]) -> dict[str, Any]:
    """``found`` with mean and deviation of every set, the published figures, and where ours differs."""
    comparable = found["data"]["train"] == PUBLISHED_IMAGES
    sets = {name: described(entry, comparable) for name, entry in found["sets"].items()}
    sizes = dict.fromkeys(entry["ipc"] for entry in sets.values() if entry["ipc"] in PUBLISHED and comparable)
    readings = {str(ipc): reading({e["kind"]: e for e in sets.values() if e["ipc"] == ipc}, ipc) for ipc in sizes}
    return {**found, "sets": sets, "window_start": readings, "differences": differences(found)}


def described(entry: Mapping[str, Any], comparable: bool) -> dict[str, Any]:
    runs = entry["accuracies"]
    kind = "window" if entry["kind"] in READINGS else entry["kind"]
    figures = PUBLISHED.get(entry["ipc"], {}).get(kind) if comparable else None
    spread = round(stdev(runs), 6) if len(runs) > 1 else 0.0
    published = {"mean": round(figures[0] / 100, 4), "std": round(figures[1] / 100, 4)} if figures else None
    return {
        **{key: value for key, value in entry.items() if key != "accuracies"},
        "accuracy": {"mean": round(mean(runs), 6), "std": spread, "runs": runs},
        "published": published,
    }


def reading(sets: Mapping[str, Mapping[str, Any]], ipc: int) -> dict[str, Any]:
    """How far, in points, each reading of window_start is from the published oracle window, and from its lead."""
    published = PUBLISHED[ipc]
    accuracy = {kind: 100 * sets[kind]["accuracy"]["mean"] for kind in ("random", *READINGS)}
    lead = published["window"][0] - published["random"][0]
    off = {kind: round(accuracy[kind] - published["window"][0], 2) for kind in READINGS}
    lead_off = {kind: round(accuracy[kind] - accuracy["random"] - lead, 2) for kind in READINGS}
    nearest = [min(READINGS, key=lambda kind: abs(part[kind])) for part in (off, lead_off)]
    measured = ", ".join(f"{accuracy[kind]:.1f} as {text}" for kind, text in READINGS.items())
    if nearest[0] == nearest[1]:
        conclusion = f"{READINGS[nearest[0]]} fits better, in accuracy and in its lead over random"
    else:
        conclusion = "accuracy and lead over random point to different readings, so neither is settled"
    return {
        "off_published": off,
        "lead_off_published": lead_off,
        "conclusion": f"published oracle window {published['window'][0]}, {lead:+.1f} over random; "
        f"measured {measured}, random {accuracy['random']:.1f}: {conclusion}",
    }


def differences(found: Mapping[str, Any]) -> list[str]:
    """Where this run differs from the published one, in words."""
    experts, evaluation, source = found["experts"], found["evaluation"], found["data"]
    recipe = experts["recipe"]
    copy = ", a JPEG copy, not the original pixels" if "jpeg" in source["id"].lower() else ""
    of_ipc = [name for name, entry in found["sets"].items() if entry["method"].get("window_unit") == "ipc"]
    steps = [f"{name} {e['steps']}" + (" (diverged then)" if e["diverged"] else "") for name, e in learned_sets(found)]
    return [
        f"images: {source['id']}{copy}; normalised by the statistics of the training images",
        f"experts: {experts['count']}, of {recipe['epochs']} epochs each (published: 100, of 100 each), layers in "
        f"{recipe['precision']}, augmentation: {recipe['augmentation']['kind']} (the release: none, where its flag for "
        "it has no effect)",
        f"difficulty: {found['score']['name']} of these experts (published: C-scores)",
        f"window_start (beta): a fraction of the class, but of ipc for {', '.join(of_ipc) or 'none'} (the release: "
        "of ipc for all)",
        f"outer steps: {', '.join(steps) or 'none'} (published: 10,000); the student's step size is learned as its "
        "logarithm",
        "the last step is evaluated (the release: the checkpoint with the best test accuracy)",
        f"evaluation: {evaluation['updates']} updates of {evaluation['training']['batch']} images whatever the set, "
        f"layers in {evaluation['training']['precision']}, {evaluation['runs']} networks a set (published: about "
        "20,000 updates, 5 networks)",
    ]


def learned_sets(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, entry) for name, entry in found["sets"].items() if entry["optim"]]


def table(result: Mapping[str, Any]) -> str:
    """Accuracies in %, and what the minutes went to."""
    rows = [["set", "images", "learned", "outer steps", "accuracy %", "published %"]]
    for name, entry in result["sets"].items():
        counts = [str(entry["images"]), str(entry["learned"]), str(entry.get("steps", "-"))]
        rows.append([name, *counts, percent(entry["accuracy"]), percent(entry["published"])])
    spent = ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in result["seconds"].items())
    evaluation, lines = result["evaluation"], [f"- {line}" for line in result["differences"]]
    lines += [f"- {found['conclusion']}" for found in result["window_start"].values()]
    title = f"{result['device']}: {spent}; {evaluation['updates']} updates, {evaluation['runs']} networks a set"
    return "\n".join([title, "", aligned(rows), *lines])


def percent(value: Mapping[str, Any] | None) -> str:
    return f"{100 * value['mean']:.2f} ± {100 * value['std']:.2f}" if value else "-"


@click.command()
@click.argument("data")
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
def pack(data: str, out: Path) -> None:
    """Pack the encoded images of the dataset DATA into OUT, a .npz file."""
    write_pack(out, pack_dataset(data))
    tell(f"wrote {out.name}, {out.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    run(pack)
