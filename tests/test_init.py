"""``distillkit init`` in repositories of somebody else's."""

import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from dvc.repo import Repo
from huggingface_hub import constants
from interpreter import PYTHON, path
from PIL import Image
from ruamel.yaml import YAML
from sklearn.datasets import load_digits

from distillkit import __version__
from distillkit.base import params
from distillkit.base.arguments import OFFERED, check_methods
from distillkit.base.errors import ParamsError, SourceError
from distillkit.cli import cli, main
from distillkit.estimates.speeds import Speeds
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.methods import METHODS
from distillkit.pipeline.packaging import PackageSpec
from distillkit.pipeline.recipes import read_recipe
from distillkit.setup import fitting, new_files
from distillkit.setup.defaults import EVALUATION, EXPERTS, RECIPES, Effort, Facts, values
from distillkit.setup.init import plan_for
from distillkit.setup.new_files import Plan
from distillkit.setup.workflow import workflow_text
from distillkit.sources.fetch import DataSpec
from distillkit.training.trajectories import ExpertsSpec

ROOT = Path(__file__).parents[1]
QUIET = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": "", "GIT_CONFIG_GLOBAL": os.devnull}


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command of this environment, as when it is activated."""
    given = {**os.environ, **QUIET, "PATH": path(), **environment}
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=600)


def distillkit(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in this process."""
    told = StringIO(), StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(told[0]),
        redirect_stderr(told[1]),
        pytest.raises(SystemExit) as ended,
    ):
        patch.chdir(folder)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["distillkit", *arguments])
        patch.setattr("signal.signal", lambda *_: None)
        main()
    return subprocess.CompletedProcess(arguments, ended.value.code, *(text.getvalue() for text in told))


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """One whose speed need not be measured: seconds for each pipeline. Processes measure this one."""
    monkeypatch.setattr(fitting, "speeds_of", lambda data, images: Speeds(2000, 2000, 2000, 500))
    yield


def files(folder: Path) -> dict[str, bytes]:
    kept = (path for path in folder.rglob("*") if path.is_file() and not {".git", ".dvc"} & set(path.parts))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}


@pytest.fixture(scope="module")
def new_repository(tmp_path_factory) -> Path:
    """A Git and DVC repository with thirty images of each of ten classes, and a pipeline of its own."""
    tmp_path, data = tmp_path_factory.mktemp("repository"), load_digits()
    for row, (image, label) in enumerate(zip(data.images[:300], data.target[:300], strict=True)):
        path = tmp_path / f"data/raw/{label}/{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype("uint8")).save(path)
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  prepare:\n    cmd: cp -r data/raw data/digits\n    deps: [data/raw]\n    outs: [data/digits]\n"
    )
    for command in (["git", "init", "-q"], [PYTHON, "-m", "dvc", "init", "-q"]):
        assert run(tmp_path, *command).returncode == 0
    return tmp_path


@pytest.fixture
def repository(new_repository, tmp_path) -> Path:
    return Path(shutil.copytree(new_repository, tmp_path, dirs_exist_ok=True))


def read(folder: Path) -> dict:
    """params.yaml, every section of it read as its stage reads it."""
    data = params.load(folder / "params.yaml")
    params.section(data, "data", DataSpec)
    params.section(data, "experts", ExpertsSpec)
    params.section(data, "evaluation", EvaluationRecipe)
    assert params.section(data, "package", PackageSpec).default in data["recipes"]
    for name in data["recipes"]:
        read_recipe(data, name)
    return data


def test_the_pipeline_is_written_beside_what_is_theirs(repository):
    before = files(repository)
    ran = distillkit(repository, "init", "distill", "--dataset", "data/raw", "--ipc", "2", "--ipc", "5", "--ci")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith("next: dvc repro distill/dvc.yaml\n")
    after = files(repository)
    assert before.items() <= after.items()
    scripts = {f"distill/stages/{path.name}" for path in (ROOT / "stages").glob("*.py")}
    ignores = {"distill/.distillkit/.gitignore", "distill/artifacts/.gitignore"}
    rest = {"distill/dvc.yaml", "distill/params.yaml", *ignores}
    assert after.keys() - before.keys() == scripts | rest | {".github/workflows/distill.yml", "distill/constraints.txt"}
    assert after["distill/constraints.txt"] == (ROOT / "constraints.txt").read_bytes()
    for name in scripts:
        assert after[name] == (ROOT / name.removeprefix("distill/")).read_bytes()

    data = read(repository / "distill")
    assert data["data"]["source"] == {"kind": "folder", "path": "../data/raw"} and "size" not in data["data"]
    assert data["distillkit"] == __version__
    assert list(data["recipes"]) == [
        "full",
        *(f"{method}-ipc{ipc}" for ipc in (2, 5) for method in ("random", "window", "mtt", "selmatch")),
    ]
    assert data["package"] == {"name": "raw-distilled", "default": "selmatch-ipc5", "storage": "float32"}
    stages = YAML(typ="safe").load(repository / "distill/dvc.yaml")["stages"]
    assert "../data/raw" in stages["fetch"]["deps"]
    for stage in stages.values():
        stage = stage.get("do", stage)
        assert not any(path.startswith("distillkit") for path in stage["deps"])
    assert stages["code"]["deps"] == ["stages"] and stages["code"]["params"] == ["distillkit"]
    listed = run(repository, PYTHON, "-m", "dvc", "stage", "list", "distill/dvc.yaml", "--name-only")
    assert "evaluate@selmatch-ipc5" in listed.stdout, listed.stderr

    workflow = YAML(typ="safe").load(repository / ".github/workflows/distill.yml")
    assert workflow["defaults"]["run"]["working-directory"] == "distill"
    commands = [step["run"] for step in workflow["jobs"]["check"]["steps"] if "run" in step]
    assert commands[0].endswith(f'\npip install -c constraints.txt "distillkit=={__version__}"\n')
    assert "distillkit push artifacts/hub/raw-distilled" in commands[-1]

    again = distillkit(repository, "init", "distill", "--dataset", "data/raw", "--ipc", "2", "--ipc", "5")
    assert again.returncode == 0 and files(repository) == after


def test_selections_that_need_no_numbers_are_on_offer(repository):
    methods = ("herding", "k-centre", "moderate", "kmeans")
    options = [word for method in methods for word in ("--method", method)]
    ran = distillkit(repository, "init", "distill", "--dataset", "data/raw", "--ipc", "2", *options)
    assert ran.returncode == 0, ran.stderr
    data = read(repository / "distill")
    assert list(data["recipes"]) == ["full", "random-ipc2", *(f"{method}-ipc2" for method in methods)]


def test_every_method_on_offer_can_be_read_and_fits_the_images(repository):
    options = [word for method in OFFERED for word in ("--method", method)]
    ran = distillkit(repository, "init", "distill", "--dataset", "data/raw", "--ipc", "1", *options)
    assert ran.returncode == 0, ran.stderr
    data = read(repository / "distill")
    assert list(data["recipes"]) == ["full", *(f"{method}-ipc1" for method in OFFERED)]
    assert set(METHODS) - set(OFFERED) == {"full", "ccfs", "dd", "diffusion", "imported"}


@pytest.mark.parametrize(
    ("method", "why"), [("dd", ", which needs numbers of your own"), ("full", "; expected .*; full is always there$")]
)
def test_a_method_that_is_not_on_offer_says_why(method, why):
    with pytest.raises(ParamsError, match=f"is '{method}'{why}"):
        check_methods([method])


def test_random_alone_is_a_method(bare):
    text = plan_for(bare, "digits", [5], ["random"], None, False).files[Path("params.yaml")]
    data = YAML(typ="safe").load(text)
    assert list(data["recipes"]) == ["full", "random-ipc5"] and data["package"]["default"] == "random-ipc5"


def test_a_dataset_that_torchvision_has_not_is_refused(bare):
    with pytest.raises(SourceError, match="torchvision has no classification dataset 'Nope'"):
        plan_for(bare, "torchvision:Nope", [5], ["random"], None, False)
    assert plan_for(bare, "torchvision:MNIST", [5], ["random"], None, False).files


def test_a_workflow_for_a_pipeline_that_is_there(repository):
    """The pipeline has been changed since, and stays as it is; so do the versions it is run with."""
    assert distillkit(repository, "init", "distill", "--dataset", "data/raw", "--ipc", "2").returncode == 0
    path = repository / "distill/params.yaml"
    path.write_text(path.read_text().replace("name: raw-distilled", "name: mine"))
    (repository / "distill/constraints.txt").write_text("torch==2.13.0\n")
    before = files(repository)
    ran = distillkit(repository, "init", "distill", "--ci")
    assert ran.returncode == 0 and ran.stdout.startswith("wrote .github/workflows/distill.yml; next: "), ran.stderr
    after = files(repository)
    assert after.keys() - before.keys() == {".github/workflows/distill.yml"} and before.items() <= after.items()
    assert b"artifacts/hub/mine reports/report.html" in after[".github/workflows/distill.yml"]

    (repository / ".github/workflows/distill.yml").write_text("name: theirs\n")
    path.write_text("experts: 5\n")
    refused = distillkit(repository, "init", "distill", "--ci")
    assert refused.returncode == 1 and "params.yaml has no section 'package'; add it" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_the_cache_of_a_data_repository_in_a_folder(tmp_path):
    """After `dvc init --subdir`."""
    folder = tmp_path / "data/distill"
    folder.mkdir(parents=True)
    (tmp_path / "data/.dvc").mkdir()
    workflow = YAML(typ="safe").load(workflow_text(folder, tmp_path, "flowers"))
    (cache,) = [step["with"]["path"] for step in workflow["jobs"]["check"]["steps"] if "cache@" in step.get("uses", "")]
    assert cache == "data/.dvc/cache" and workflow["defaults"]["run"]["working-directory"] == "data/distill"


def test_nothing_is_overwritten(repository):
    before = files(repository)
    ran = distillkit(repository, "init", "--dataset", "data/raw", "--ipc", "2")
    assert ran.returncode == 2
    assert "-    cmd: cp -r data/raw data/digits" in ran.stdout and "+  fetch:" in ran.stdout
    assert ran.stderr.startswith("error: dvc.yaml is there already") and len(ran.stderr.splitlines()) == 1
    assert files(repository) == before


def test_a_dry_run_writes_nothing(repository):
    before = files(repository)
    ran = distillkit(repository, "init", "distill", "--dataset", "data/raw", "--ipc", "1", "--dry-run")
    assert ran.returncode == 0 and "==> distill/params.yaml" in ran.stdout
    assert files(repository) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ipc", "30"], "--ipc is 30; expected at most 14, the most for window, selmatch with "),
        (["--method", "selmtch"], "--method is 'selmtch' (did you mean 'selmatch'?)"),
        (["--method", "ccfs"], "--method is 'ccfs', which needs numbers of your own; add it later (docs/methods)"),
        (["--dataset", "nowhere"], "--dataset is 'nowhere', which is no folder here"),
        (["--dataset", "data/none"], "--dataset is 'data/none', but the folder data has no 'none'; expected"),
        (["--dataset", "data"], "the only class is 'raw'; expected at least 2"),
    ],
)
def test_what_cannot_be_is_one_line(repository, options, message):
    before = files(repository)
    given = options if "--dataset" in options else ["--dataset", "data/raw", *options]
    ran = distillkit(repository, "init", "distill", *given)
    assert ran.returncode == 1 and message in ran.stderr and len(ran.stderr.splitlines()) == 1, ran.stderr
    assert files(repository) == before


def test_outside_a_repository(tmp_path):
    ran = distillkit(tmp_path, "init")
    assert ran.returncode == 1 and "run `git init && dvc init` first" in ran.stderr


# In one process


@pytest.fixture
def bare(tmp_path, monkeypatch) -> Path:
    """What init takes for a Git and DVC repository, with a few images in images/; one stands in it."""
    for folder in (".git", ".dvc"):
        (tmp_path / folder).mkdir()
    images_in(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def images_in(folder: Path) -> None:
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for row in range(4):
            Image.new("L", (8, 8), row).save(folder / label / f"{row}.png")


def init(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["init", *arguments])


def planned(folder: Path = Path("pipe"), dataset: str = "images", methods=("mtt",), name=None, ci=False) -> Plan:
    return plan_for(folder, dataset, (1,), methods, name, ci)


def test_what_is_written_is_what_is_said(bare):
    """Of a second call nothing is, of a third what is missing; what people have changed stays in the way."""
    given = ("pipe", "--dataset", "images", "--ipc", "1", "--method", "mtt")
    assert init(*given).stdout == "wrote 16 files to pipe; next: dvc repro pipe/dvc.yaml\n"
    before = files(bare)
    said = "nothing to write: all 16 files are in pipe already, with the same content; next: dvc repro pipe/dvc.yaml\n"
    assert init(*given).stdout == said
    assert files(bare) == before
    (bare / "pipe/params.yaml").unlink()
    (bare / "pipe/stages/fetch.py").unlink()
    assert (
        init(*given).stdout
        == "wrote pipe/stages/fetch.py and pipe/params.yaml (14 were there already); next: dvc repro pipe/dvc.yaml\n"
    )
    assert files(bare) == before
    (bare / "pipe/params.yaml").write_text("seed: 1\n")
    (bare / "pipe/dvc.yaml").unlink()
    assert init(*given).exit_code == 2
    assert not (bare / "pipe/dvc.yaml").exists() and (bare / "pipe/params.yaml").read_text() == "seed: 1\n"


def test_files_of_an_earlier_init_are_not_in_a_new_folder(bare):
    """A new folder is one that is not there, and a file is changed as shown only where something was shown."""
    given = ("--dataset", "images", "--method", "mtt", "--ipc")
    differs = "error: {}/params.yaml is there already and differs; nothing was written; change it by hand as shown, "
    for folder, new in {"pipe": "distill", "distill": "distill-2", "distill-2": "distill-3"}.items():
        assert init(folder, *given, "1").exit_code == 0
        ended = init(folder, *given, "2")
        remedy = f"remove it, or name a new folder: distillkit init {new}\n"
        assert ended.stderr.endswith(differs.format(folder) + remedy) and "+  mtt-ipc2:" in ended.stdout
        assert init(new, *given, "2", "--dry-run").exit_code == 0
    (bare / "file").touch()
    assert "is no folder; nothing was written; remove it, or name a new" in init("file", *given, "1").stderr


@pytest.mark.parametrize(("cap", "written"), [(1000, None), (2, 2)])
def test_init_writes_no_cap_that_no_class_reaches(bare, monkeypatch, cap, written):
    """Of four images a class, one is set aside for testing."""
    monkeypatch.setattr(fitting, "LEVELS", (Effort(per_class=cap),))
    told = init("pipe", "--dataset", "images", "--ipc", "1", "--method", "mtt", "--minutes", "1000").stderr
    assert read(bare / "pipe")["data"].get("per_class") == written
    assert ("per_class 2" in told) == (written is not None) and "per_class 1000" not in told


def test_images_that_no_clone_will_have(bare, tmp_path_factory):
    outside = tmp_path_factory.mktemp("elsewhere")
    images_in(outside / "images")
    (bare / "linked").symlink_to(outside / "images")
    for dataset in (str(outside / "images"), "linked"):
        ended = init("pipe", "--dataset", dataset, "--ipc", "1", "--method", "mtt", "--dry-run")
        assert ended.exit_code == 0
        assert f"warning: {outside / 'images'} is outside the repository, so clones, CI" in ended.stderr
    assert "warning" not in init("pipe", "--dataset", "images", "--ipc", "1", "--method", "mtt").stderr


# Of the four images of a class in `bare`, one is for testing; a window loses another, which the scan holds out.


@pytest.mark.parametrize(("methods", "ipc"), [([], 2), (["mtt"], 3), (["mtt", "window"], 2), (["average", "mtt"], 1)])
def test_without_an_ipc_the_smallest_class_decides(bare, methods, ipc):
    Image.new("L", (8, 8), 9).save(bare / "images/a/more.png")
    given = ["pipe", "--dataset", "images", *(part for method in methods for part in ("--method", method))]
    for ended in (init(*given, "--dry-run"), init(*given)):
        [chosen] = [line for line in ended.stderr.splitlines() if line.startswith("ipc: ")]
        assert chosen.startswith(f"ipc: {ipc} instead of 10; it is the most for ")
        assert chosen.endswith(" with 3 training images in the smallest class ('b')")
        assert ended.exit_code == 0
    assert {recipe.get("ipc", ipc) for recipe in read(bare / "pipe")["recipes"].values()} == {ipc}
    assert init("more", *given[1:], "--ipc", str(ipc)).exit_code == 0
    assert "--ipc is" in str(init("other", *given[1:], "--ipc", str(ipc + 1)).exception), "it was the largest"


def test_an_ipc_that_the_smallest_class_has_no_room_for(bare):
    ended = init("pipe", "--dataset", "images", "--ipc", "1", "--ipc", "3")
    expected = "expected at most 2, the most for window, selmatch with 3 training images in the smallest class ('a')"
    assert str(ended.exception) == f"--ipc is 3; {expected}; pass --ipc 2"
    assert not (bare / "pipe").exists()


def test_a_class_that_is_too_small_for_some_methods(bare):
    for row in (1, 2, 3):
        (bare / f"images/b/{row}.png").unlink()
    Image.new("L", (8, 8), 9).save(bare / "images/b/1.png")
    ended = init("pipe", "--dataset", "images")
    found = "the smallest class ('b') has 1 training image; expected more for window, selmatch"
    assert str(ended.exception) == f"{found}; add images, or pass --method mtt"
    ended = init("pipe", "--dataset", "images", "--method", "window")
    assert str(ended.exception).endswith("expected more for window; add images, or pass --method random")
    assert init("pipe", "--dataset", "images", "--method", "random").exit_code == 0


@pytest.mark.parametrize("name", ["stages", "artifacts", ".distillkit"])
def test_a_file_where_a_folder_is_needed(bare, name):
    (bare / "pipe").mkdir()
    (bare / "pipe" / name).write_text("theirs")
    before = files(bare)
    ended = init("pipe", "--dataset", "images", "--ipc", "1")
    assert ended.exit_code == 2 and f"error: pipe/{name} is there already and is no folder" in ended.stderr
    assert files(bare) == before


def test_a_file_where_the_pipeline_is_to_be(bare):
    (bare / "file").write_text("theirs")
    ended = init("file/pipe", "--dataset", "images", "--ipc", "1")
    assert ended.exit_code == 2 and "error: file is there already and is no folder" in ended.stderr


def test_a_link_to_nothing_is_in_the_way(bare):
    (bare / "pipe").mkdir()
    (bare / "pipe/dvc.yaml").symlink_to("nowhere")
    ended = init("pipe", "--dataset", "images", "--ipc", "1")
    assert ended.exit_code == 2 and "pipe/dvc.yaml is there already and differs" in ended.stderr
    assert "cannot be read" in ended.stdout and list((bare / "pipe").iterdir()) == [bare / "pipe/dvc.yaml"]


def test_a_workflow_is_seen_from_a_folder_that_is_not_there_yet(bare):
    (bare / ".github/workflows").mkdir(parents=True)
    (bare / ".github/workflows/distill.yml").write_text("name: theirs\n")
    ended = init("pipe", "--dataset", "images", "--ipc", "1", "--ci")
    assert ended.exit_code == 2 and "error: .github/workflows/distill.yml is there already" in ended.stderr
    assert ended.stderr.endswith("; change it by hand as shown, remove it, or leave out --ci\n")
    assert not (bare / "pipe").exists()


def test_nothing_is_left_of_what_cannot_all_be_written(bare, monkeypatch):
    def full(path: Path, text: str) -> None:
        if path.name == "fetch.py":
            raise OSError(28, "No space left on device")
        write_text(path, text)

    write_text = new_files.write_text
    monkeypatch.setattr(new_files, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        new_files.write(planned(Path("new/pipe")))
    assert not (bare / "new").exists()


def test_lines_that_end_otherwise_are_a_difference(bare):
    there = planned()
    new_files.write(there)
    (bare / "pipe/dvc.yaml").write_text(there.files[Path("dvc.yaml")].rstrip("\n"))
    ended = init("pipe", "--dataset", "images", "--ipc", "1", "--method", "mtt")
    assert ended.exit_code == 2 and ended.stdout == "pipe/dvc.yaml differs in its line endings\n"


def test_what_is_there_is_told_before_an_image_that_is_broken(bare):
    """A dvc.yaml of theirs without a look at the images; params.yaml, which depends on these, before their error."""
    given = ("pipe", "--dataset", "images", "--ipc", "1", "--method", "mtt")
    for image in (bare / "images/a").iterdir():
        image.write_bytes(b"no image")
    ended = init(*given)
    assert str(ended.exception).startswith("3 images cannot be read: a/") and not (bare / "pipe").exists()
    (bare / "pipe").mkdir()
    (bare / "pipe/params.yaml").write_text("seed: 1\n")
    there = str(init(*given).exception)
    assert there == f"pipe/params.yaml is there already, so nothing was written; besides, {ended.exception}"
    (bare / "pipe/dvc.yaml").write_text("stages: {}\n")
    ended = init(*given)
    assert ended.exit_code == 2 and "error: pipe/dvc.yaml is there already and differs; nothing" in ended.stderr
    assert "+  fetch:" in ended.stdout and not (bare / "pipe/stages").exists()
    assert str(init(*given, "--dry-run").exception) == there, "what is not to be written is shown with the images"


@pytest.mark.parametrize("name", ["x: y", "../evil", "a b", "", "CON"])
def test_a_name_that_no_package_can_have(bare, name):
    with pytest.raises(ParamsError, match="package name is "):
        planned(name=name)


@pytest.mark.parametrize("name", ["2024", "yes", "1e5", "0x10"])
def test_a_name_stays_text(bare, name):
    new_files.write(planned(name=name))
    assert read(bare / "pipe")["package"]["name"] == name


@pytest.mark.parametrize("name", ["img #1", "a: b", "- x", "${HOME}", "'quoted'", "*star", "2024", "Größe"])
def test_a_folder_of_any_name_is_what_the_stages_read(bare, name):
    images_in(bare / name)
    new_files.write(planned(dataset=name))
    assert read(bare / "pipe")["data"]["source"]["path"] == f"../{name}"
    (bare / ".git").rmdir()
    for command in (["init", "-q"], ["config", "core.excludesFile", os.devnull]):
        subprocess.run(["git", *command], cwd=bare, check=True)
    (bare / ".dvc/config").touch()
    with Repo(str(bare)) as repo:
        (fetch,) = [stage for stage in repo.index.stages if stage.name == "fetch"]
        assert bare / name in [Path(dependency.fs_path) for dependency in fetch.deps]


def test_a_name_that_is_no_text(bare):
    name = os.fsdecode(b"caf\xe9")
    try:
        images_in(bare / name)
    except OSError:
        pytest.skip("a filesystem that has but Unicode names")
    with pytest.raises(SourceError, match="is not UTF-8"):
        planned(dataset=name)


def test_what_the_stages_could_not_read_is_not_written(bare, monkeypatch):
    monkeypatch.setattr("distillkit.setup.params_template.quoted", str)
    with pytest.raises(ParamsError, match=r"package.name is 2024"):
        planned(dataset="images", name="2024")


@pytest.mark.parametrize("folder", ["images", "images/pipe", "images/a/pipe"])
def test_a_pipeline_among_its_own_images(bare, folder):
    with pytest.raises(ParamsError, match="would lie inside the folder of the images"):
        planned(Path(folder))


def test_images_among_what_the_pipeline_writes(bare):
    images_in(bare / "artifacts/mine")
    with pytest.raises(ParamsError, match="where the pipeline writes its own files"):
        planned(Path(), dataset="artifacts/mine")
    assert planned(Path()).files, "images in another folder of the pipeline's are no obstacle"


def test_a_method_named_twice_is_one(bare):
    once, twice = planned(methods=["mtt"]), planned(methods=["mtt", "mtt"])
    assert once.files == twice.files


def test_what_is_next_can_be_pasted(bare):
    ended = init("my exp", "--dataset", "images", "--ipc", "1")
    assert ended.stdout.endswith("next: dvc repro 'my exp/dvc.yaml'\n"), ended.output


def test_data_above_git(bare):
    (bare / "inner/.git").mkdir(parents=True)
    with pytest.raises(ParamsError, match="above the Git repository"):
        planned(Path("inner/pipe"), ci=True)


def test_a_workflow_in_a_folder_of_any_name(bare):
    folder = bare / "a #1: b"
    workflow = YAML(typ="safe").load(workflow_text(folder, bare, "flowers"))
    assert workflow["defaults"]["run"]["working-directory"] == "a #1: b"


@pytest.mark.parametrize("option", [["--dataset", "images"], ["--ipc", "10"], ["--method", "mtt"]])
def test_what_a_workflow_alone_has_no_use_for(bare, option):
    assert init("pipe", "--dataset", "images", "--ipc", "1").exit_code == 0
    ended = init("pipe", "--ci", *option)
    assert ended.exit_code == 2 and f"{option[0]} is for a new pipeline" in ended.stderr
    assert not (bare / ".github").exists() and init("pipe", "--ci").exit_code == 0


def test_a_clone_whose_params_were_changed_gives_others_the_usual_numbers(bare, tmp_path_factory, monkeypatch):
    root = tmp_path_factory.mktemp("root")
    (root / "params.yaml").write_text((ROOT / "params.yaml").read_text().replace("image_lr: 30", "image_lr: 1"))
    (root / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    before = planned().files[Path("params.yaml")]
    monkeypatch.setattr("distillkit.setup.params_template.ROOT", root)
    assert planned().files[Path("params.yaml")] == before


def test_the_numbers_of_this_repository_are_those_that_init_writes():
    """So that what was measured with them holds for what others begin with."""
    ours, facts = params.load(ROOT / "params.yaml"), Facts((8, 8), 10, 1347)
    assert values(EXPERTS, facts) == {"experts": ours["experts"]}
    assert values(EVALUATION, facts) == {"evaluation": ours["evaluation"]}
    for name, recipe in ours["recipes"].items():
        numbers = values(RECIPES.get(recipe["method"], ""), facts, recipe.get("ipc", 1))
        assert {key: part for key, part in recipe.items() if key not in ("method", "ipc")} == numbers, name


# The Hub


def test_a_dataset_of_the_hub_is_not_downloaded(repository, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # as the client reads it from the environment
    ran = distillkit(repository, "init", "distill", "--dataset", "someone/flowers@v1.0", "--ipc", "10")
    assert ran.returncode == 0 and [line[:5] for line in ran.stderr.splitlines()[1:]] == ["timin", "time:"], ran.stderr
    assert "someone/flowers@v1.0 is not on this machine (" in ran.stderr
    assert ": assumed 10 classes and images of 32x32; check data.size" in ran.stderr
    source = read(repository / "distill")["data"]["source"]
    assert source == {"kind": "huggingface", "id": "someone/flowers", "revision": "v1.0"}


CARD = """---
dataset_info:
  features:
  - {name: image, dtype: image}
  - {name: label, dtype: {class_label: {names: {'0': daisy, '1': rose, '2': tulip}}}}
  splits:
  - {name: train, num_examples: 6000}
  - {name: test, num_examples: 600}
---
"""


@pytest.fixture
def flowers(hub):
    """A dataset on the Hub."""
    repo = hub.create("someone/flowers")
    repo.commit({"README.md": CARD.encode(), "data/train-0.parquet": b"nobody reads it"})
    return repo


def test_the_card_of_a_dataset_on_the_hub_says_how_many(repository, hub, flowers):
    ran = distillkit(repository, "init", "distill", "--dataset", "someone/flowers", "--ipc", "2")
    assert ran.returncode == 0 and [line[:5] for line in ran.stderr.splitlines()[1:]] == ["timin", "time:"], ran.stderr
    assert (
        "someone/flowers has 6,000 training images in 3 classes, says its card: assumed images of 32x32" in ran.stderr
    )
    assert not [request for request in hub.requests if "parquet" in request.path]
    data = read(repository / "distill")
    assert data["recipes"]["mtt-ipc2"]["matching"]["student_batch"] == 6
    assert data["data"]["size"] == [32, 32] and data["experts"]["recipe"]["batch"] == 128
    ran = distillkit(repository, "init", "more", "--dataset", "someone/flowers", "--ipc", "2001")
    assert ran.returncode == 1 and "with at most 2,000 training images in the smallest class; pass --ipc " in ran.stderr


@pytest.mark.parametrize("card", ["# Flowers\n", CARD.replace("class_label", "klass"), CARD.replace("6000", "many")])
def test_a_card_that_does_not_say_is_no_obstacle(repository, flowers, card):
    flowers.commit({"README.md": card.encode()})
    ran = distillkit(repository, "init", "distill", "--dataset", "someone/flowers", "--ipc", "2")
    assert ran.returncode == 0 and [line[:5] for line in ran.stderr.splitlines()[1:]] == ["timin", "time:"], ran.stderr
    assert "its card does not say which classes and how many images there are): assumed 10 classes" in ran.stderr


@pytest.mark.slow
def test_from_the_wheel_in_a_fresh_environment(repository, tmp_path_factory):
    """The wheel's own files run the pipeline, after the user's own stage."""
    folder = tmp_path_factory.mktemp("wheel")
    python = folder / "venv/bin/python"
    here = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.__path__[0])"], capture_output=True, text=True
    )
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    site = next((folder / "venv/lib").glob("python*/site-packages"))
    (site / "inherit.pth").write_text(f"{Path(here.stdout.strip()).parent}\n")  # the dependencies, not this checkout
    for arguments in (["wheel", "--no-deps", "-q", "-w", str(folder), str(ROOT)], ["install", "--no-deps", "-q"]):
        wheel = [str(path) for path in folder.glob("*.whl")] if arguments[0] == "install" else []
        subprocess.run([python, "-m", "pip", *arguments, *wheel], check=True, capture_output=True)
    environment = {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    options = ["--dataset", "data/digits", "--ipc", "2", "--method", "selmatch"]
    assert run(repository, str(python), "-m", "dvc", "repro", "-q", **environment).returncode == 0
    assert run(repository, "distillkit", "init", "distill", *options, **environment).returncode == 0
    ran = run(repository, str(python), "-m", "dvc", "repro", "distill/dvc.yaml", **environment)
    assert ran.returncode == 0, ran.stderr
    assert (repository / "distill/artifacts/hub/digits-distilled/manifest.json").is_file()
