"""The ``distillkit`` command. Slow imports are inside the commands, so that ``--help`` answers quickly."""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Literal

import click

from distillkit import __version__
from distillkit.base import arguments, params
from distillkit.base.errors import ArtifactError, ParamsError, check_shadows
from distillkit.base.names import check_package_name, check_recipe
from distillkit.process.command import run

JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
IMAGES = (
    "A real.safetensors with the test split, or the source's local folder; by default fetched from the source, or else "
    "artifacts/real if it has the same images."
)
TEST = click.option("--test", type=Path, help=IMAGES)
SOURCE = "A real.safetensors, or the source's local folder; by default fetched from the source."
NETWORK = click.option(
    "--network",
    help="Another network: vgg11, alexnet, resnet18, mlp or vit; or, for a set of a network of somebody's own, "
    "the function that builds it, as package.module:function.",
)

SAVED_AS, LABELS = ["normalised", "pixels"], ["probabilities", "logits", "hard"]  # choices of `distillkit import`


@click.group(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "DISTILLKIT"})
@click.version_option(__version__, prog_name="distillkit")
def cli() -> None:
    """Make, inspect, publish, fetch and check distilled datasets."""


@cli.command(short_help="Show what an artifact or a package contains.")
@click.argument("path", type=Path)
@JSON
def show(path: Path, as_json: bool) -> None:
    """Show what an artifact (.safetensors) or a packaged folder contains, and check a folder against its manifest."""
    arguments.check_artifact(path)
    from distillkit.check.show import describe, lines

    description = describe(path)
    answer(as_json, description, lines(description))


@cli.command(short_help="Train networks on a set; print their accuracy.")
@click.argument("path", type=Path)
@click.argument("recipe", required=False)
@click.option("--recipe", "named", help="The same as RECIPE.")
@TEST
@click.option("--params", "params_file", type=Path, help="Take the evaluation recipe from this params.yaml.")
@click.option("--runs", type=click.IntRange(1), help="Networks to train; by default as many as the recipe says.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the networks to train.")
@NETWORK
@JSON
def evaluate(
    path: Path, test: Path | None, params_file: Path | None, as_json: bool, named: str | None, **options: Any
) -> None:
    """Train fresh networks on a distilled set and print their test accuracy. PATH is an artifact, a recipe of the
    pipeline in this folder, or a packaged folder, of which RECIPE is taken, by default its default recipe.

    For a packaged folder, the evaluation recipe is its own; for an artifact, it is that of params.yaml in this folder.
    """
    options["recipe"] = options["recipe"] or named
    path = arguments.artifact_called(str(path)) or path
    arguments.check_artifact(path)
    arguments.check_test(test)
    if params_file is not None:
        arguments.check_params_file(params_file)
        params.load(params_file)
    elif path.is_file() and not params.FILE.exists():
        raise ParamsError(f"there is no {params.FILE} here; expected one with an evaluation recipe; give --params")
    from distillkit.check.evaluation import evaluate_again
    from distillkit.package.card_words import percent

    result = evaluate_again(path, test=test, params_file=params_file, **options)
    claimed = "" if result["claimed"] is None else f"; claimed {percent(result['claimed'])}"
    answer(as_json, result, [f"{percent(result['accuracy'])} test accuracy{claimed}"])


@cli.command(short_help="Measure what a set reveals about its source.")
@click.argument("path", type=Path)
@click.argument("recipe", required=False)
@click.option(
    "--shadows",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Shadow sets to make and attack: 0, or at least 4.",
)
@click.option("--source", type=Path, help=SOURCE)
@JSON
def audit(path: Path, recipe: str | None, shadows: int, source: Path | None, as_json: bool) -> None:
    """Measure what a set (an artifact, or RECIPE of a packaged folder) reveals about the images that it was made from.

    Without --shadows: copies, and distances to the source. With --shadows N: membership inference with N shadow sets,
    each made from a random half of the source. N is at least 4. Each shadow set costs as much as the set itself, with
    its own experts. Ctrl-C keeps those that are done.
    """
    arguments.check_artifact(path)
    arguments.check_test(source, "--source")
    check_shadows(shadows)
    from distillkit.audit.result import lines
    from distillkit.check.audit import audit_again

    result = audit_again(path, recipe, source, shadows)
    answer(as_json, result, lines(result))


@cli.command(short_help="Publish a package on the Hub.")
@click.argument("folder", type=Path)
@click.argument("repo")
@click.option("--tag", help="Name the commit, such as v1.0; a tag never moves.")
@click.option("--private", is_flag=True, help="Create a private repository.")
@click.option("--message", help="The commit's message.")
@click.option("--i-may-publish", is_flag=True, help="Publish although the licence is not known to allow it.")
@click.option(
    "--receipt", type=Path, default=Path("published.json"), show_default=True, help="File for the record of this push."
)
@JSON
def push(
    folder: Path,
    repo: str,
    tag: str | None,
    private: bool,
    message: str | None,
    i_may_publish: bool,
    receipt: Path,
    as_json: bool,
) -> None:
    """Publish a packaged FOLDER as dataset REPO (owner/name) on the Hugging Face Hub, in one commit.

    The folder is first checked against its manifest; only files in the manifest are sent. You can safely run the
    command again: without changes, it does nothing. It needs a token that may write: HF_TOKEN, or `hf auth login`.
    """
    arguments.check_package_folder(folder)
    arguments.push_target(repo, tag)
    from distillkit.hub.client import connect
    from distillkit.hub.push import lines
    from distillkit.hub.push import push as publish

    told: dict[str, Any] = {"tag": tag, "private": private, "message": message, "may_publish": i_may_publish}
    pushed = publish(connect(), folder, repo, receipt=receipt, **told)
    answer(as_json, asdict(pushed), lines(pushed))


@cli.command(short_help="Fetch a package from the Hub.")
@click.argument("repo")
@click.argument("recipe", required=False)
@click.option("-o", "--out", type=Path, help="The folder to write; by default the name of the repository.")
@JSON
def pull(repo: str, recipe: str | None, out: Path | None, as_json: bool) -> None:
    """Fetch REPO (owner/name or owner/name@revision), or one RECIPE of it, and check every byte against its manifest.

    With HF_HUB_OFFLINE=1, the files come from the cache of earlier pulls.
    """
    from distillkit.base.references import parse_reference
    from distillkit.hub.client import connect

    reference = parse_reference(repo)
    from distillkit.hub.pull import fetch_sign_offs
    from distillkit.hub.pull import pull as fetch

    out = out or Path(reference.repo.split("/")[1])
    package, commit = fetch(connect(), reference, recipe, out)
    signed = fetch_sign_offs(connect(), reference.repo, commit, out)
    described = {"repo": reference.repo, "commit": commit, "path": str(out), "recipes": list(package.recipes)}
    described["sign_offs"] = signed
    people = [
        f"{out}: {', '.join(package.recipes)} of {reference} (commit {commit})",
        "every file is as the manifest says",
        *([f"with {len(signed)} files of sign-offs; distillkit show {out} lists them"] if signed else []),
    ]
    answer(as_json, described, people)


@cli.command(short_help="Train again and compare with the card.")
@click.argument("package")
@click.argument("recipe", required=False)
@click.option("--seeds", "runs", type=click.IntRange(1), help="Networks to train; by default as many as in the claim.")
@TEST
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the networks to train.")
@NETWORK
@click.option("--sign-off", type=Path, help="Write the result to this new .json file, for others to check.")
@click.option("--by", help="Who verifies: the name or account in the sign-off.")
@JSON
def verify(
    package: str,
    recipe: str | None,
    runs: int | None,
    test: Path | None,
    seed: int,
    network: str | None,
    sign_off: Path | None,
    by: str | None,
    as_json: bool,
) -> None:
    """Check PACKAGE (a folder, or owner/name@revision on the Hub): hashes, that its parts agree, and its accuracy.

    Trains new networks on RECIPE (by default the package's default) with the package's own evaluation recipe. Exits
    with 0 when the claim holds and with 3 when it does not.
    """
    arguments.package_reference(package)
    arguments.check_test(test)
    arguments.check_sign_off(sign_off, by)
    if sign_off is not None and network is not None and ":" not in network:
        raise click.UsageError(f"--sign-off is for the main claim, but --network is {network}; drop one of them")
    from distillkit.check.sign_off import sign_off as write_sign_off
    from distillkit.check.sign_off import written_lines
    from distillkit.check.verify import as_dict, lines
    from distillkit.check.verify import verify as check
    from distillkit.hub.pull import pulled

    with pulled(package, recipe) as opened:
        verdict = check(opened, recipe, test=test, runs=runs, seed=seed, network=network)
        if sign_off is not None and by is not None:
            write_sign_off(opened, verdict, by, seed, sign_off)
    written = [] if sign_off is None else written_lines(sign_off, verdict.recipe)
    answer(as_json, as_dict(verdict), [*lines(verdict), *written])
    if not verdict.matches:
        sys.exit(3)


@cli.command(short_help="Compare two sets: images, parameters, accuracy.")
@click.argument("before")
@click.argument("after")
@click.argument("recipe", required=False)
@click.option("--picture", type=Path, help="Draw the images that differ into this PNG.")
@JSON
def diff(before: str, after: str, recipe: str | None, picture: Path | None, as_json: bool) -> None:
    """Compare two sets: images, parameters, accuracy.

    BEFORE and AFTER are artifacts, packaged folders, packages on the Hub (owner/name@revision), or recipes of the
    pipeline in this folder. Two packages are compared in all recipes, or in RECIPE only.
    """
    check_picture("--picture", picture)
    before, after = (arguments.set_reference(side) for side in (before, after))
    from distillkit.check.diff import picture as diff_picture
    from distillkit.check.diff import text as views
    from distillkit.check.diff.inputs import difference
    from distillkit.check.diff.result import Difference

    found = difference(before, after, recipe)
    if isinstance(found, Difference):
        if picture is not None:
            diff_picture.draw(found, picture)
        answer(as_json, views.as_json(found), views.lines(found))
        return
    if picture is not None:
        raise click.UsageError("a picture shows one recipe; name it after BEFORE and AFTER")
    answer(as_json, views.package_as_json(found), views.package_lines(found))


@cli.command(short_help="See in a browser what a set is.")
@click.argument("path", default=".", metavar="[FOLDER|ARTIFACT|OWNER/NAME]")
@click.argument("recipe", required=False)
@click.option(
    "--against", metavar="OTHER", help="Show what differs from this set: a recipe beside it, or any other set."
)
@click.option("--source", type=Path, help=SOURCE)
@click.option("--without-source", is_flag=True, help="Show no image of the source but those that are in the set.")
@click.option("--export", "folder", type=Path, help="Write a static site into this folder, and open nothing.")
@click.option("--no-open", is_flag=True, help="Start no browser.")
@JSON
def look(path: str, recipe: str | None, folder: Path | None, no_open: bool, as_json: bool, **told: Any) -> None:
    """Show a set in a browser: every image, what it began as and became, what the set covers, and each class.

    The set is RECIPE of a pipeline's folder, of a packaged folder or of a package on the Hub, or an artifact. If its
    pictures have at most 20 MB, the page is one file; else a server on this machine sends them as they are scrolled to.
    """
    if recipe is None and "/" not in path and not Path(path).exists():
        path, recipe = ".", path
    for place in (path, told["against"]):
        if place is not None and Path(place).suffix == ".safetensors":
            arguments.check_artifact(Path(place))
        elif place is not None and ("/" in place or Path(place).exists()) and not arguments.is_pipeline(Path(place)):
            arguments.package_reference(place)
    arguments.check_test(told["source"], "--source")
    from distillkit.look.command import lines
    from distillkit.look.command import look as show_page

    told["with_source"] = not told.pop("without_source")
    found = show_page(path, recipe, folder=folder, browse=not no_open, **told)
    answer(as_json, found, lines(found))


@cli.command(short_help="Compare the accuracies of several packages.")
@click.argument("packages", nargs=-1, required=True)
@click.option("--recipe", "recipes", multiple=True, help="Use this recipe only; may be repeated.")
@click.option("--signed-off", is_flag=True, help="Use the accuracies in sign-offs instead of the claims.")
@click.option("--apart", is_flag=True, help="Make a separate table for each way of measurement.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values on stdout.")
@click.option("--plot", type=Path, help="Draw the table into this PNG.")
@JSON
def table(
    packages: tuple[str, ...],
    recipes: tuple[str, ...],
    signed_off: bool,
    apart: bool,
    as_csv: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Put the sets of PACKAGES (folders, or owner/name@revision on the Hub) into one table, the most accurate first.

    Sets that were measured in different ways (network, updates, labels, test images and more) are refused; the message
    gives the reason.
    """
    check_picture("--plot", plot)
    if as_csv and as_json:
        raise ParamsError("--csv and --json are both given; expected one form of the table; drop one")
    for package in packages:
        arguments.package_reference(package)
    from distillkit.check.leaderboard import views
    from distillkit.check.leaderboard.claims import check_alike, groups_of, rows_of

    groups = groups_of(rows_of(list(dict.fromkeys(packages)), recipes, signed_off))
    if not apart:
        check_alike(groups)
    if plot is not None:
        views.draw(groups, plot)
    answer(as_json, views.as_json(groups), [views.as_csv(groups)] if as_csv else views.markdown(groups))


@cli.command(short_help="Write a pipeline into your repository.")
@click.argument("folder", type=Path, default=Path())
@click.option("--dataset", default="digits", show_default=True, help="A folder, owner/name, or torchvision:Name.")
@click.option(
    "--ipc",
    "ipcs",
    type=click.IntRange(1),
    multiple=True,
    help="Images per class; may be repeated.  [10, if they fit]",
)
@click.option(
    "--method", "methods", multiple=True, help="random, window, mtt, selmatch, dm, herding …; may be repeated."
)
@click.option("--image-column", "image", help="The column with the images, if several columns could be meant.")
@click.option("--label-column", "label", help="The column with the labels.")
@click.option("--train-split", help="Split or folder to train on; . if the folders in DATASET are the classes.")
@click.option("--test-split", help="Split or folder to test on; none for a part of the training images.")
@click.option("--follow-links", is_flag=True, default=None, help="Follow links to files outside the folder.")
@click.option("--name", help="Name of the package; by default from the dataset's name.")
@click.option("--minutes", type=click.IntRange(1), help="Choose networks, experts, steps and images to fit this time.")
@click.option("--ci", is_flag=True, help="Also write a GitHub Actions workflow; only this if FOLDER has a pipeline.")
@click.option("--dry-run", is_flag=True, help="Print the files instead of writing them.")
def init(
    folder: Path,
    dataset: str,
    ipcs: tuple[int, ...],
    methods: tuple[str, ...],
    name: str | None,
    minutes: int | None,
    ci: bool,
    dry_run: bool,
    **source: Any,
) -> None:
    """Write the pipeline into FOLDER (by default this one) of your own Git and DVC repository.

    The numbers in the files fit the dataset, and you can edit all of them. The command reports what it found in the
    dataset. It never overwrites a file: if one exists, it shows the differences, writes nothing, and exits with code 2.
    """
    arguments.check_methods(methods)
    arguments.check_dataset(dataset)
    if name is not None:
        check_package_name(name)
    from distillkit.process.progress import presentable, tell
    from distillkit.setup.init import USUAL, plan_for
    from distillkit.setup.new_files import differences, outcome, remedy, write
    from distillkit.setup.workflow import name_of_pipeline
    from distillkit.sources.summary import lines

    if ci and (given := options_given("dataset", "ipcs", "methods")) and name_of_pipeline(folder):
        found = f"{given[0]} is for a new pipeline, but {folder} has one"
        raise click.UsageError(f"{found}; leave it out, or name a folder")
    wanted = ipcs, methods or USUAL
    planned = plan_for(folder, dataset, *wanted, name, ci, source_settings(source), minutes, to_write=not dry_run)
    if dry_run:
        for path, text in planned.files.items():
            click.echo(presentable(f"==> {folder / path}\n{text}"))
    if conflicts := planned.conflicts():
        for line in differences(planned):
            click.echo(presentable(line))
        click.echo(f"error: {conflicts[0]}; nothing was written; {remedy(conflicts[0])}", err=True)
        sys.exit(2)
    for line in (*(lines(planned.summary) if planned.summary else ()), *planned.notes):
        tell(line)
    if not dry_run:
        click.echo(outcome(planned, write(planned)))


def source_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options about the source that were given, as settings of it."""
    settings = {key: value for key, value in options.items() if value}
    return settings | ({"test_split": None} if settings.get("test_split") == "none" else {})


def options_given(*names: str) -> list[str]:
    """Those of the running command's options that the user gave, as they are written."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    given = [name for name in names if context.get_parameter_source(name) is not default]
    return [option.opts[0] for option in context.command.params if option.name in given]


@cli.command(short_help="Check this machine and the pipeline.")
@click.argument("folder", type=Path, default=Path())
@JSON
def doctor(folder: Path, as_json: bool) -> None:
    """Check whether this machine is ready for the pipeline in FOLDER (by default this one), and say what to do.

    The exit code is 0 unless a check has failed.
    """
    arguments.check_folder(folder)
    from distillkit.setup.doctor import examine, lines

    findings = list(examine(folder))
    failed = [finding.check for finding in findings if finding.status == "failure"]
    answer(as_json, {"ready": not failed, "findings": [finding.plain() for finding in findings]}, lines(findings))
    if failed:
        sys.exit(1)


@cli.command(short_help="Run dvc repro, with stages side by side.")
@click.argument("targets", nargs=-1)
@click.option("--on", type=click.Choice(["local", "ray", "slurm"]), default="local", show_default=True, help="Engine.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Stages at a time.  [local: 2; ray, slurm: 64]")
@click.option("--address", help="Ray: address of the cluster; by default RAY_ADDRESS, this machine's, or a new one.")
@click.option("--partition", help="Slurm: partition for the jobs.")
@click.option("--remote", help="Transfer results through this DVC remote, even if nodes share a file system.")
@click.option("--work", type=Path, help="Folder for unfinished work, which all nodes can access.")
@click.option(
    "--cores", type=click.IntRange(1), help="Cores of each job; estimated by default, as are --gpus and --memory."
)
@click.option("--gpus", type=click.IntRange(0), help="GPUs of each job.")
@click.option("--memory", type=click.FloatRange(0, min_open=True), help="Memory of each job, in GiB.")
@click.option("--minutes", type=click.IntRange(1), default=None, help="Slurm: time limit of a job.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each event, each on its own line of stdout.")
def repro(targets: tuple[str, ...], on: str, jobs: int | None, as_json: bool, **options: Any) -> None:
    """Run `dvc repro` for dvc.yaml or TARGETS, and run independent stages side by side.

    With --on ray or --on slurm, stages that train run on a cluster. Each line of output has the name of its stage. If
    a stage fails, the running stages finish and no other starts. Ctrl-C stops all running stages; the same
    command continues them. The files are the same as those of `dvc repro`. So is dvc.lock; only after an interruption
    may its stages have another order. To run a stage again although nothing has changed: `dvc repro -fs STAGE`.
    """
    for name in (name for name, value in options.items() if value is not None):
        engines = {"address": ["ray"], "partition": ["slurm"], "minutes": ["slurm"]}.get(name, ["ray", "slurm"])
        if on not in engines:
            wanted = " or ".join(f"--on {engine}" for engine in engines)
            raise click.UsageError(f"--{name} is not for --on {on}; expected {wanted} with it; correct one of them")
    from distillkit.engines.controller import repro as side_by_side
    from distillkit.engines.display import board
    from distillkit.engines.start import Options, check_params, starter

    targets = tuple(f"{name}/dvc.yaml" if arguments.is_pipeline(Path(name)) else name for name in targets)
    check_params(targets)
    side_by_side(
        targets,
        jobs or (2 if on == "local" else 64),
        board(as_json, partial(click.echo, file=sys.stdout)),
        starter(on, Options(**options)),
    )


@cli.command("merge-lock", short_help="Merge dvc.lock by stage, for Git.")
@click.argument("files", nargs=-1, metavar="[BASE OURS THEIRS [NAME]]")
@click.option("--install", is_flag=True, help="Make Git use this command for dvc.lock in this repository.")
@click.option(
    "--rerun", is_flag=True, help="Leave out stages that both sides changed, so that dvc repro runs them again."
)
def merge_lock(files: tuple[str, ...], install: bool, rerun: bool) -> None:
    """Merge two versions of dvc.lock by stage. After `distillkit merge-lock --install`, Git calls this command with the
    files (BASE OURS THEIRS NAME); you do not.

    Stages that one side changed are merged. A stage that both sides changed in different ways is a conflict: both
    versions are marked in the file, and the exit code is 1. With --rerun, such a stage is left out.
    """
    from distillkit.process import merge_lock as driver

    if install and not files:
        click.echo("\n".join(driver.install(rerun)))
        return
    if install or len(files) not in (3, 4):
        raise click.UsageError(
            f"{len(files)} files are given; expected BASE OURS THEIRS, or --install alone; see --help"
        )
    name = files[3] if len(files) == 4 else files[1]
    base, ours, theirs = map(Path, files[:3])
    if conflicts := driver.merge_lock(base, ours, theirs, name, rerun):
        found = f"{name}: both sides changed {', '.join(conflicts)}"
        raise ArtifactError(f"{found}; expected one version of each; keep one in the file, or none and run dvc repro")


@cli.command(short_help="List or delete leftovers of the pipeline.")
@click.argument("folder", type=Path, default=Path())
@click.option("--delete", is_flag=True, help="Delete the leftovers; otherwise they are only listed.")
@JSON
def clean(folder: Path, delete: bool, as_json: bool) -> None:
    """List leftovers of the pipeline in FOLDER (by default this one), with sizes; --delete deletes them.

    These are files of removed recipes and shards, packages with other names, and unfinished work. Files under DVC stay
    in DVC's cache. If you add a recipe again, DVC restores them from there. Snapshots (images during a distillation, in
    artifacts/snapshots) are not under DVC: --delete loses them.
    """
    from distillkit.pipeline.clean import clean as clear
    from distillkit.pipeline.clean import lines

    items, entries = clear(folder, delete)
    found = [{"path": str(item.path), "why": item.why, "bytes": item.size} for item in items]
    answer(as_json, {"deleted": delete, "found": found, "dvc.lock": entries}, lines(items, entries, delete))


@cli.command("import", short_help="Make an artifact from a set that other code saved.")
@click.argument("files", nargs=-1, required=True)
@click.option("-o", "--out", type=Path, required=True, help="The artifact to write, a .safetensors file.")
@click.option("--saved-as", type=click.Choice(SAVED_AS), help="How the images were saved; by default the command asks.")
@click.option("--statistics", help="How they were normalised: cifar10, mnist, … or mean/std: 0.5,0.5,0.4/0.2,0.2,0.2.")
@click.option("--classes", help="Class names in order: separated by commas, or a text file with one per line.")
@click.option("--labels", type=click.Choice(LABELS), help="What the soft labels are; hard uses the likeliest class.")
@click.option("--index", type=click.IntRange(0), help="Number of the set, from 0, in a file with several experiments.")
@click.option("--licence", help="Licence of the images; an SPDX identifier if there is one.")
@click.option("--size", help="Resize pictures to this side, or to height x width, such as 64 or 64x48.")
@click.option("--config", help="Config of a dataset.")
@click.option("--split", help="Split of a dataset or of a folder of splits; by default train.")
@click.option("--image-column", "image", help="The column with the pictures, if several columns could be meant.")
@click.option("--label-column", "label", help="The column with the labels.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@JSON
def import_(
    files: tuple[str, ...],
    out: Path,
    saved_as: Literal["normalised", "pixels"] | None,
    statistics: str | None,
    classes: str | None,
    labels: Literal["probabilities", "logits", "hard"] | None,
    index: int | None,
    size: str | None,
    licence: str | None,
    overwrite: bool,
    as_json: bool,
    **columns: str | None,
) -> None:
    """Make an artifact from images and labels that other code made. Nothing in the files is executed.

    FILES are tensors (.pt, .npz or safetensors), or one place with pictures: a folder with a folder for each class, a
    .parquet file or a folder of them, or a dataset on the Hub (owner/name@revision). The artifact can be an ordinary
    recipe: paste the printed lines into params.yaml, and `dvc repro` evaluates and packages it. For ZCA-whitened sets,
    use the file images_zca_*.pt that the other code saved beside them, with --saved-as pixels.
    """
    if arguments.holds_pictures(files):
        arguments.check_new_artifact("out", out, overwrite)
        from distillkit.foreign.importing import import_place, lines
        from distillkit.foreign.pictures import Picked, check_pixels, size_told

        check_pixels(saved_as, labels, index)
        picked = Picked(size_told(size), **columns)
        told = {"statistics": statistics, "classes": classes, "licence": licence}
        found = import_place(files[0], out, picked, overwrite=overwrite, **told)
        answer(as_json, found, lines(found))
        return
    if given := options_given("size", *columns):
        raise click.UsageError(f"{given[0]} is for pictures, but {files[0]} holds tensors; drop it")
    saved_as, statistics = how_saved(saved_as, statistics)
    arguments.check_new_artifact("out", out, overwrite)
    check_named(statistics, classes)
    from distillkit.foreign.importing import import_files, lines

    settings: dict[str, Any] = {"statistics": statistics, "classes": classes, "labels": labels, "index": index}
    settings |= {"licence": licence, "overwrite": overwrite}
    found = import_files([Path(file) for file in files], out, saved_as=saved_as, **settings)
    answer(as_json, found, lines(found))


def how_saved(saved_as: str | None, statistics: str | None) -> tuple[Any, str | None]:
    """Both options of a set of tensors, asked for where they are missing."""
    if saved_as is None:
        expected = "pixels, which are from 0 to 1, or normalised"
        saved_as = asked("--saved-as", "Were the images saved normalised, or as pixels", expected, SAVED_AS)
    if saved_as == "normalised" and statistics is None:
        expected = "those that the images were normalised with: a name such as cifar10, or mean/std such as 0.5/0.2"
        statistics = asked("--statistics", "Normalised with (cifar10, …, or mean/std)", expected)
    return saved_as, statistics


def check_named(statistics: str | None, classes: str | None) -> None:
    """Raise ParamsError for statistics or class names that cannot be read."""
    if statistics is not None:
        arguments.statistics_numbers(statistics)
    if classes is not None:
        arguments.classes_named(classes)


@cli.command(short_help="Write the image generator of a recipe.")
@click.argument("recipe")
@click.argument("folder", type=Path)
@click.option("--real", type=Path, default=Path("artifacts/real"), show_default=True, help="The images.")
@JSON
def generator(recipe: str, folder: Path, real: Path, as_json: bool) -> None:
    """Write the image generator of RECIPE (of method diffusion) into a new FOLDER: safetensors and JSON.

    The command trains the generator, unless the recipe's stage has saved it; Ctrl-C keeps finished work. The library
    diffusers can read its parts.
    """
    arguments.check_new_folder(folder)
    check_recipe(params.load(), recipe)
    arguments.check_artifact(real)
    from distillkit.generators.sampling import build, built_lines

    built = build(recipe, folder, real)
    answer(as_json, built, built_lines(built))


@cli.command(short_help="Make a labelled set with a generator.")
@click.argument("folder", type=Path)
@click.option("--per-class", type=click.IntRange(1), required=True, help="Images of each class.")
@click.option("-o", "--out", type=Path, required=True, help="The artifact to write, a .safetensors file.")
@click.option("--guidance", type=float, help="Strength of guidance towards the class; by default the recipe's.")
@click.option("--steps", type=click.IntRange(1, 1000), help="Steps of DDIM; by default the recipe's.")
@click.option("--seed", type=click.IntRange(0), help="By default the recipe's.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@JSON
def sample(
    folder: Path, per_class: int, out: Path, seed: int | None, overwrite: bool, as_json: bool, **sampling: Any
) -> None:
    """Make a labelled set of any size with the generator in FOLDER, which `distillkit generator` wrote."""
    arguments.check_generator(folder)
    arguments.check_new_artifact("--out", out, overwrite)
    from distillkit.generators.sampling import draw, drawn_lines

    given = {key: value for key, value in sampling.items() if value is not None}
    drawn = draw(folder, out, per_class, given, seed, overwrite)
    answer(as_json, drawn, drawn_lines(drawn))


def check_picture(option: str, path: Path | None) -> None:
    """Raise UsageError unless ``path``, the value of ``option``, is None or ends in .png."""
    if path is not None and path.suffix.lower() != ".png":
        raise click.UsageError(f"{option} is {path}; expected a file name that ends in .png; choose one")


def asked(option: str, question: str, expected: str, choices: list[str] | None = None) -> Any:
    """The user's answer to a question. Raises UsageError if stdin is not a terminal."""
    if not sys.stdin.isatty():
        raise click.UsageError(f"{option} is missing; expected {expected}")
    return click.prompt(question, type=click.Choice(choices) if choices else str, err=True)


def answer(as_json: bool, value: dict[str, Any], people: Iterable[str]) -> None:
    """Print one JSON object, or lines of text."""
    from distillkit.process.progress import presentable

    click.echo(presentable(json.dumps(value, sort_keys=True) if as_json else "\n".join(people)))


def main() -> None:
    """Entry point of the console script."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")  # print a ? for unsupported characters, not a traceback
    run(cli)
