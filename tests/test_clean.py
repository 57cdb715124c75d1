"""What params.yaml does not name: moved away before a folder is hashed, listed and deleted when asked."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from filelock import FileLock
from ruamel.yaml import YAML
from test_pipeline import dvc

from distillkit.cli import cli
from distillkit.data.leftovers import LEFT_OVER
from distillkit.pipeline.unfinished import WORK

STAGES = Path(__file__).parents[1] / "stages"
PARAMS = {
    "expert_shards": [0, 2],
    "recipes": {"random-5": {"method": "random"}},
    "audit": {"recipes": ["random-5"]},
    "package": {"name": "digits"},
}
NAMED = {
    "artifacts/experts/shard-0.safetensors",
    "artifacts/distilled/random-5.safetensors",
    "metrics/random-5.json",
    "metrics/classes/random-5.json",
    "metrics/audit/random-5.json",
    "artifacts/snapshots/random-5.safetensors",
    "artifacts/hub/digits/manifest.json",
}
OTHERS_OWN = {"metrics/README.md", "artifacts/experts/.gitignore", "artifacts/hub/notes/README.md"}
SHARD, RECIPE = "artifacts/experts/shard-1.safetensors", {"metrics/mtt.json", "metrics/classes/mtt.json"}
UNFINISHED = f"{WORK}/distill-mtt-0123"
SNAPSHOT = "artifacts/snapshots/mtt.safetensors"  # no stage moves it away: it is not under DVC
REST = {
    SNAPSHOT,
    "artifacts/hub/old/manifest.json",
    "artifacts/distilled/.a.safetensors.0a1b.tmp",
    f"{UNFINISHED}/distillation.safetensors",
    ".distillkit/live/mtt/metrics.json",
    ".distillkit/left-over/metrics/older.json",
}


@pytest.fixture
def pipeline(tmp_path, monkeypatch) -> Path:
    for path in (*NAMED, *OTHERS_OWN, SHARD, *RECIPE, *REST):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    (tmp_path / "params.yaml").write_text(json.dumps(PARAMS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {
        "params.yaml",
        ".distillkit/.gitignore",
    }


def gather(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["gather", *arguments])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(STAGES / "gather.py"), run_name="__main__")
    assert ended.value.code == 0


def test_what_is_left_over_is_moved_and_other_files_stay(pipeline, monkeypatch, capsys):
    everything = NAMED | OTHERS_OWN | REST
    gather(monkeypatch, "expert_shards", "artifacts/experts", "shards.json")
    assert files(pipeline) == everything | RECIPE | {f"{LEFT_OVER}/{SHARD}", "shards.json"}
    assert f"{SHARD} is of nothing that params.yaml names; moved to {LEFT_OVER}/{SHARD}\n" in capsys.readouterr().err
    gather(monkeypatch, "recipes", "artifacts/distilled", "metrics", "recipes.json")
    moved = {f"{LEFT_OVER}/{path}" for path in (SHARD, *RECIPE)}
    assert files(pipeline) == everything | moved | {"shards.json", "recipes.json"}
    assert (pipeline / "shards.json").read_text() == "[\n  0,\n  2\n]\n"
    recipes = YAML(typ="safe").load(pipeline / "params.yaml")["recipes"]
    assert json.loads((pipeline / "recipes.json").read_text()) == recipes, "all of it, for stages that depend on this"


def test_the_result_of_an_audit_goes_when_it_is_turned_off(pipeline, monkeypatch):
    (pipeline / "params.yaml").write_text(json.dumps(PARAMS | {"audit": {"recipes": [], "shadows": 16}}))
    shown = CliRunner().invoke(cli, ["clean", "--json"])
    assert [row["path"] for row in json.loads(shown.stdout)["found"]].count("metrics/audit/random-5.json") == 1
    gather(monkeypatch, "recipes", "metrics", "recipes.json")
    assert {path for path in files(pipeline) if "random-5" in path} == {
        *(path for path in NAMED if "random-5" in path and "audit" not in path),
        f"{LEFT_OVER}/metrics/audit/random-5.json",
    }


def test_clean_lists_and_deletes_only_when_told(pipeline):
    before = files(pipeline)
    listed = CliRunner().invoke(cli, ["clean"])
    assert listed.exit_code == 0, listed.output
    assert files(pipeline) == before
    for path in (SHARD, *RECIPE, SNAPSHOT, "artifacts/hub/old", UNFINISHED, ".distillkit/left-over"):
        assert f"would delete {path} (" in listed.output
    assert re.search(r"\d+\.\d KiB; nothing is deleted without --delete\n$", listed.output)
    deleted = CliRunner().invoke(cli, ["clean", str(pipeline), "--delete", "--json"])
    assert deleted.exit_code == 0, deleted.output
    assert sum(item["bytes"] for item in json.loads(deleted.output)["found"]) == len(REST | RECIPE | {SHARD})
    assert files(pipeline) == NAMED | OTHERS_OWN
    assert CliRunner().invoke(cli, ["clean"]).output == "nothing is left over\n"


def test_nothing_is_deleted_while_a_stage_runs(pipeline):
    (pipeline / ".distillkit/locks").mkdir()
    with FileLock(pipeline / ".distillkit/locks/distill-0.lock"):
        refused = CliRunner().invoke(cli, ["clean", "--delete"])
        assert "a stage is running" in str(refused.exception)
        assert (pipeline / SHARD).exists()
    assert CliRunner().invoke(cli, ["clean", "--delete"]).exit_code == 0


@pytest.mark.long
def test_with_plain_dvc(tmp_path):
    """Stages without torch: a recipe comes, goes and is renamed; what was left over changes no hash and no commit."""
    stages = {
        "make": {
            "foreach": "${recipes}",
            "do": {
                "cmd": "mkdir -p metrics && echo '{\"x\": ${item}}' > metrics/${key}.json",
                "params": ["recipes.${key}"],
                "deps": ["always"],
                "metrics": [{"metrics/${key}.json": {"cache": False}}],
            },
        },
        "results": {
            "cmd": f"python {STAGES}/gather.py recipes metrics list.txt",
            "params": ["recipes"],
            "deps": ["metrics"],
            "outs": ["list.txt"],
        },
        "report": {
            "cmd": "cat metrics/*.json > all.txt; echo ran >> runs",
            "deps": ["metrics", "list.txt"],
            "outs": ["all.txt"],
        },
    }
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").touch()
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    folder = tmp_path / "distill"
    folder.mkdir()
    YAML(typ="safe").dump({"stages": stages}, folder / "dvc.yaml")
    (folder / "always").touch()

    def reproduced(**recipes: int) -> tuple[str, set[str]]:
        YAML(typ="safe").dump({"recipes": recipes}, folder / "params.yaml")
        dvc(folder, "repro")
        assert dvc(folder, "status") == "Data and pipelines are up to date.\n"
        return (folder / "dvc.lock").read_text(), files(folder / "metrics")

    before = reproduced(a=1)
    assert reproduced(a=1, b=2)[1] == {"a.json", "b.json"}
    assert reproduced(a=1) == before
    assert reproduced(c=2)[1] == {"c.json"}
    again, _ = reproduced(a=1)
    assert YAML(typ="safe").load(again) == YAML(typ="safe").load(before[0])
    (folder / "metrics/dead.json").write_text("{}")
    assert reproduced(a=1) == (again, {"a.json"})
    assert (folder / "runs").read_text() == 3 * "ran\n", "once for each set of recipes"
