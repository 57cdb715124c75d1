"""What happens when something breaks: each fault, at several moments, on each engine of ``distillkit repro``.

    python benchmarks/faults.py                                   # all: some ten minutes
    python benchmarks/faults.py --engine ray --only "a node"      # keeps the other rows of the file

Each fault breaks one run of the command on a pipeline with one short stage (tests/laboratory.py). If that run fails,
the cause is removed and the same command is run again. Then all files have to be those of plain ``dvc repro``. The JSON
says for each fault the exit code of the broken run, the line that tells, and how often the stage began. Unless
everything is as expected here, the command ends with an error. Ray and Slurm are clusters of this machine
(tests/clusters.py says what Slurm needs; faults of disks need root).
"""

import json
import re
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import click
from record import ROOT, conditions

sys.path.insert(0, str(ROOT / "tests"))
from clusters import until
from laboratory import BESIDE, LABS, LATER, WORK, Lab, contents

RESULTS = ROOT / "benchmarks/results/faults-cpu.json"
PAGE = ROOT / "docs/many-machines.md"
START, END = "<!-- faults: written by benchmarks/faults.py, do not edit -->\n", "<!-- end of faults -->"
BEFORE, MIDDLE, AFTER = "before the stage starts", "during the stage", "after the stage, before dvc.lock is written"
TWICE = r"starts again|Running stage 'work'(.|\n)*Running stage 'work'"
REMOTE = r"DVC remote store fails: .*; check it: dvc push -r store; then run the same command again"
GONE = r"^error: the head of the Ray cluster, .*, no longer answers \(.*\); start the cluster again, and run the same"
TORCH = {"METADATA": "Metadata-Version: 2.1\nName: torch\nVersion: 0.1\n"}
Key = tuple[str, str, str]  # the fault, the moment and the engine
Broken = tuple[int, str]  # the exit code of a command, and what it said


class Fault(NamedTuple):
    """``code`` is the exit code, ``told`` has to be in the output, ``starts`` is how often the stage begins."""

    what: str
    when: str
    breaks: Callable[[Lab], Broken]
    code: int
    told: str
    starts: dict[str, int]


FAULTS: list[Fault] = []


def fault(what: str, when: str, code: int, told: str, **starts: int) -> Callable[[Callable[[Lab], Broken]], None]:
    return lambda breaks: FAULTS.append(Fault(what, when, breaks, code, told, starts))


@fault("a node dies", BEFORE, 0, r"^work: waits: ", ray=1, slurm=1)
def _(lab: Lab) -> Broken:
    with lab.full(), lab.start() as running:
        running.until("waits")
        lab.node_dies()
    return running.ended()


@fault("a node dies", MIDDLE, 0, TWICE, ray=2, slurm=2)
def _(lab: Lab) -> Broken:
    with lab.held(), lab.start() as running:
        lab.begun()
        worker = lab.worker()
        lab.node_dies(running.node())
        until(lambda: not worker.is_running(), "the job has gone with its node")
    return running.ended()


@fault("a node dies", AFTER, 0, r"^work: done on n\d", ray=1, slurm=1)
def _(lab: Lab) -> Broken:
    with lab.held(), lab.start() as running:
        lab.begun()
        lab.worker().suspend()  # it cannot tell that the stage has ended
    lab.kept()
    lab.ended_stage()
    lab.node_dies(running.node())
    return running.ended()


@fault("a node lacks distillkit", BEFORE, 1, r"No module named 'distillkit.engines'", ray=1, slurm=1)
def _(lab: Lab) -> Broken:
    lab.site("distillkit", {"__init__.py": ""})
    with lab.spoiled() as running:
        return running.ended()


@fault("a node has another torch", BEFORE, 1, r"node n\d has torch 0\.1 \(here .*\); expected the same", ray=1, slurm=1)
def _(lab: Lab) -> Broken:
    lab.site("torch-0.1.dist-info", TORCH)
    with lab.spoiled() as running:
        return running.ended()


@fault("no node has a GPU", BEFORE, 1, r"work asks for 1 GPUs|Slurm refuses work: ", ray=1, slurm=1)
def _(lab: Lab) -> Broken:
    return lab.run("--gpus", "1")


@fault("all GPUs are in use", BEFORE, 0, r"^work: waits: .* 1 GPU", ray=1)
def _(lab: Lab) -> Broken:
    lab.close()
    lab.add("n3", num_gpus=1)
    with lab.full(), lab.start("--gpus", "1") as running:
        running.until("waits")
    return running.ended()


@fault("the cluster's head dies", BEFORE, 0, r"^later: waits: Slurm's controller does not answer$", slurm=1)
def _(lab: Lab) -> Broken:
    """Before the stage after it starts, which cannot be submitted for some time."""
    lab.declare(work=WORK, later=LATER)
    with ExitStack() as stack:
        with lab.held(), lab.start() as running:
            lab.begun()
            stack.enter_context(lab.headless())
        running.until("later: waits")
    return running.ended()


@fault("the cluster's head dies", MIDDLE, 1, GONE, ray=1)
def _(lab: Lab) -> Broken:
    """The job goes on, and leaves its result where the next command takes it up."""
    with ExitStack() as stack:
        with lab.held(), lab.start() as running:
            lab.begun()
            running.node()
            stack.enter_context(lab.headless())
            broken = running.ended()
        lab.kept()
        return broken


@fault("the cluster's head dies", MIDDLE, 0, r"^work: done on n", slurm=1)
def _(lab: Lab) -> Broken:
    with ExitStack() as stack:
        with lab.held(), lab.start() as running:
            lab.begun()
            running.node()
            stack.enter_context(lab.headless())
        return running.ended()


def at_the_end(lab: Lab, without: Callable[[], AbstractContextManager[None]]) -> Broken:
    """The stage has ended, but the job cannot report it before the block ``without`` begins."""
    with lab.held(), lab.start() as running:
        lab.begun()
        worker = lab.worker()
        worker.suspend()
    lab.kept()
    lab.ended_stage()
    with without():
        worker.resume()
        return running.ended()


@fault("the cluster's head dies", AFTER, 1, GONE, ray=1)
def _(lab: Lab) -> Broken:
    """The command gives up before the job can report its end, else it would hear of it from the job itself."""
    with lab.held(), lab.start() as running:
        lab.begun()
        worker = lab.worker()
        worker.suspend()
    lab.kept()
    lab.ended_stage()
    with lab.headless():
        broken = running.ended()
        worker.resume()
        return broken


@fault("the cluster's head dies", AFTER, 0, r"^work: done on n", slurm=1)
def _(lab: Lab) -> Broken:
    return at_the_end(lab, lab.headless)


@fault("the command is killed", BEFORE, -signal.SIGKILL, r"^work: waits: ", ray=1, slurm=1)
def _(lab: Lab) -> Broken:
    with lab.full(), lab.start() as running:
        running.until("waits")
        running.process.kill()
    return running.ended()


@fault("the command is killed", MIDDLE, -signal.SIGKILL, r"^work: ", ray=1, slurm=1)
def _(lab: Lab) -> Broken:
    with lab.held():
        with lab.start() as running:
            lab.begun()
            running.process.kill()
        with lab.start() as again:
            again.until("running on")  # the same job
    assert again.ended()[0] == 0
    return running.ended()


@fault("the command is killed", MIDDLE, -signal.SIGKILL, r"^work: ", local=2)
def _(lab: Lab) -> Broken:
    with lab.held(), lab.start() as running:
        lab.begun()
        running.process.kill()
    lab.settled()
    return running.ended()


@fault("the command is killed", AFTER, -signal.SIGKILL, "", ray=1, slurm=1)
def _(lab: Lab) -> Broken:
    with lab.held(), lab.start() as running:
        lab.begun()
        running.process.kill()
    lab.kept()
    return running.ended()


@fault("Ctrl-C", BEFORE, 130, r"^interrupted; run the same command again to go on$", ray=1, slurm=1)
def _(lab: Lab) -> Broken:
    with lab.full(), lab.start() as running:
        running.until("waits")
        running.process.send_signal(signal.SIGINT)
        return running.ended()


@fault("Ctrl-C", MIDDLE, 130, r"^interrupted; run the same command again to go on$", local=2, ray=2, slurm=2)
def _(lab: Lab) -> Broken:
    with lab.held(), lab.start() as running:
        lab.begun()
        running.process.send_signal(signal.SIGINT)
        return running.ended()


@fault("the stage fails", MIDDLE, 1, r"^error: work .*failed, see above; the stages that", local=2, ray=2, slurm=2)
def _(lab: Lab) -> Broken:
    """Another stage runs beside it to its end."""
    lab.declare(work=WORK, beside=BESIDE)
    with lab.trouble("echo no luck >&2; exit 3"):
        found = lab.run()
    assert "beside:" in (lab.folder / "dvc.lock").read_text(), found
    assert "work: no luck\n" in found[1], found
    return found


@fault("the stage is killed, as when memory runs out", MIDDLE, 1, r"^error: work .*failed", local=2, ray=2, slurm=2)
def _(lab: Lab) -> Broken:
    with lab.trouble("kill -9 $$"):
        return lab.run()


@fault("the remote cannot be reached", BEFORE, 1, REMOTE, ray=2, slurm=2)  # a folder that is not there looks empty
def _(lab: Lab) -> Broken:
    lab.extra = ["--remote", "store"]
    with lab.away():
        return lab.run()


@fault("the remote cannot be reached", MIDDLE, 1, rf"on n\d: {REMOTE}", ray=2, slurm=2)
def _(lab: Lab) -> Broken:
    lab.extra = ["--remote", "store"]
    with ExitStack() as stack:
        with lab.held(), lab.start() as running:
            lab.begun()
            stack.enter_context(lab.away())
        return running.ended()


@fault("the remote cannot be reached", AFTER, 1, rf"{REMOTE}|its result is not in", ray=1, slurm=1)
def _(lab: Lab) -> Broken:
    lab.extra = ["--remote", "store"]
    return at_the_end(lab, lab.away)


@fault("the node's disk is full", BEFORE, 0, r"^work: done on n", ray=1, slurm=1)  # its Python finds another folder
def _(lab: Lab) -> Broken:
    with lab.small_disk(lab.home / "node") as filler:
        fill(filler)
        with lab.disk_of_node(lab.home / "node"):
            return lab.run()


@fault("the node's disk is full", MIDDLE, 1, r"^work: .*No space left on device", ray=2, slurm=2)
def _(lab: Lab) -> Broken:
    with lab.small_disk(lab.home / "node") as filler, lab.disk_of_node(lab.home / "node"):
        with lab.held(), lab.start() as running:
            lab.begun()
            fill(filler)
        return running.ended()


@fault("the cache's disk is full", MIDDLE, 1, r"No space left on device", local=2, ray=2, slurm=2)
def _(lab: Lab) -> Broken:
    with lab.small_disk(lab.folder / ".dvc/cache") as filler:
        with lab.held(), lab.start() as running:
            lab.begun()
            fill(filler)
        return running.ended()


def fill(path: Path) -> None:
    """Leave no byte on a small disk."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


def examined(engine: str, fault: Fault, lab: Lab) -> dict[str, Any]:
    """The row of a fault. Raises AssertionError where something is not as expected."""
    code, said = fault.breaks(lab)
    told = re.search(fault.told, said, re.M)
    assert told, f"{fault.told} is not in {said}"
    assert code == fault.code, f"the exit code is {code}: {said}"
    assert "Traceback" not in said, said
    again, more = (0, "") if code == 0 else lab.run()
    assert again == 0, more
    starts = lab.starts()  # plain dvc repro below counts, too
    assert starts == fault.starts[engine], f"the stage has begun {starts} times: {said}{more}"
    assert contents(lab.folder) == lab.plain(), "not the files of plain dvc repro"
    lines = [line for line in said.splitlines() if re.search(fault.told, line)] or said.splitlines()[-1:]
    line = lines[-1] if lines else ""
    for found, written in ((str(lab.home), "."), (sys.executable, "python"), (socket.gethostname(), "HOST")):
        line = line.replace(found, written)
    return {
        "fault": fault.what,
        "when": fault.when,
        "engine": engine,
        "code": code,
        "said": line,
        "starts": starts,
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of docs/many-machines.md: of each fault, the exit code and how often the stage began."""
    lines = [f"| what breaks | when | {' | '.join(LABS)} |", f"|---|---|{'---|' * len(LABS)}"]
    cells = {(row["fault"], row["when"], row["engine"]): f"{row['code']} / {row['starts']}" for row in rows}
    for what, when in dict.fromkeys((fault.what, fault.when) for fault in FAULTS):
        found = [cells.get((what, when, engine), "–") for engine in LABS]
        lines.append(f"| {what} | {when} | {' | '.join(found)} |")
    return "\n".join(lines) + "\n"


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """docs/many-machines.md with the table of these rows."""
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    return f"{before}{START}\n{table(rows)}\n{END}{rest.partition(END)[2]}"


def tried(engine: str, only: Sequence[str]) -> Iterator[tuple[Key, dict[str, Any] | None]]:
    """The key and the row of each fault; no row where something is not as expected, which is told."""
    with LABS[engine]() as labs, TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        for fault in (fault for fault in FAULTS if engine in fault.starts and any(map(fault.what.count, only))):
            row, home = None, Path(folder, "home")
            lab = labs(home)
            try:
                row = examined(engine, fault, lab)
            except AssertionError as error:
                click.echo(error, err=True)
            finally:
                lab.close()
                shutil.rmtree(home, ignore_errors=True)
            click.echo(f"{engine}, {fault.what}, {fault.when}: {'as' if row else 'NOT as'} expected", err=True)
            yield (fault.what, fault.when, engine), row


def write(found: Mapping[Key, dict[str, Any] | None], out: Path) -> None:
    """The JSON, and the page where it shows it: rows that are in the file and not ``found`` anew stay."""
    known = json.loads(out.read_text(encoding="utf-8"))["faults"] if out.exists() else []
    rows = {(row["fault"], row["when"], row["engine"]): row for row in known} | found
    order = ((fault.what, fault.when, engine) for fault in FAULTS for engine in fault.starts)
    kept = [row for key in order if (row := rows.get(key))]
    out.write_text(json.dumps(conditions("faults") | {"faults": kept}, indent=2) + "\n", encoding="utf-8")
    if out == RESULTS:
        PAGE.write_text(page(kept), encoding="utf-8")


@click.command()
@click.option("--engine", "engines", multiple=True, type=click.Choice(list(LABS)), default=list(LABS))
@click.option("--only", multiple=True, default=[""], help="Faults with this in their name.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=RESULTS, help="Where the JSON goes.")
def main(engines: tuple[str, ...], only: tuple[str, ...], out: Path) -> None:
    found: dict[Key, dict[str, Any] | None] = {}
    for key, row in (pair for engine in engines for pair in tried(engine, only)):
        found[key] = row
        write(found, out)
    wrong = sum(row is None for row in found.values())
    if wrong:
        raise click.ClickException(f"{wrong} faults did not end as expected, see above; they are not in the file")


if __name__ == "__main__":
    main()
