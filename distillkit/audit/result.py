"""An audit's result: reading it, and what it means in words. Imports nothing heavy: report and card say it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distillkit.base.errors import ArtifactError, counted
from distillkit.base.outside import UnreadableError, content, read_json

Result = Mapping[str, Any]
FOLDER = "audit"  # in the folder of the metrics
NO_PROOF = "this is not a proof that it reveals nothing"


def read_audits(metrics: Path, recipes: Mapping[str, Any]) -> dict[str, Result]:
    """The results in ``metrics``/audit of those recipes that were audited, in their order."""
    paths = {name: metrics / FOLDER / f"{name}.json" for name in recipes}
    return {name: read_audit(path) for name, path in paths.items() if path.is_file()}


def read_audit(path: Path) -> Result:
    """Raises ArtifactError when the file is no result of an audit."""
    try:
        found = read_json(content(path))
        lines = [audit_words(found), *table_row(found)]
    except UnreadableError as error:
        raise ArtifactError(f"{path} is not valid JSON ({error}); run its audit stage again") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is no result of an audit ({error!r}); run its audit stage again") from None
    result: Result = found if all(lines) else {}
    return result


def rate(part: Mapping[str, float], scale: float = 100, digits: int = 1) -> str:
    """A value with its error."""
    return f"{scale * part['value']:.{digits}f} ± {scale * part['standard_error']:.{digits}f}"


def audit_words(result: Result) -> str:
    """The result in one sentence. Never that a set is private: no attack can show that."""
    if "attack" not in result:
        return set_words(result["set"])
    attack = result["attack"]
    random, exposed, sets = attack["random"], attack["exposed"], counted(attack["shadows"], "shadow set")
    area = f"AUC {rate(random['auc'], 1, 3)}, {sets}"
    if not attack["better_than_chance"]:
        return f"Membership inference did not do measurably better than chance with {sets} ({area}); {NO_PROOF}."
    found = ""
    if "tpr_at_1_in_100" in random:
        most = f", {rate(exposed['tpr_at_1_in_100'])} % of the most exposed" if "tpr_at_1_in_100" in exposed else ""
        found = f": it recognised {rate(random['tpr_at_1_in_100'])} % of the images that a set was made from{most}, "
        found += "and took 1 % of the others for them"
    return f"Membership inference did better than chance{found} ({area})."


def set_words(found: Mapping[str, Any]) -> str:
    """What the set alone shows, in one sentence."""
    copies, near = found["copies"], found["near_copies"] - found["copies"]
    better = "did better than chance" if found["attack"]["better_than_chance"] else "did not do better than chance"
    return (
        f"Of {counted(found['images'], 'image')}, {copies:,} {'is a copy' if copies == 1 else 'are copies'} of a "
        f"training image, and {near:,} more {'is' if near == 1 else 'are'} nearer to one than 99 % of the test images "
        f"are; recognising training images by their distance to the set alone {better}. No shadow sets were made; "
        f"{NO_PROOF}."
    )


COLUMNS = (
    *("recipe", "copies", "AUC", "found at 1 % false", "found at 0.1 % false"),
    *("most exposed, at 1 % false", "used images, at 0.1 % false", "better than chance"),
)


def table_row(result: Result) -> list[str]:
    """The result in the cells of ``COLUMNS``, rates in percent; – where it was not measured."""
    attack, held = result.get("attack", {}), result["set"]
    parts = [
        ("random", "tpr_at_1_in_100"),
        ("random", "tpr_at_1_in_1000"),
        ("exposed", "tpr_at_1_in_100"),
        ("used", "tpr_at_1_in_1000"),
    ]
    cells = [attack.get(group, {}).get(name) for group, name in parts]
    area = attack.get("random", {}).get("auc")
    verdict = attack.get("better_than_chance")
    return [
        str(result["recipe"]),
        f"{held['copies']:,} of {held['images']:,}",
        "–" if area is None else rate(area, 1, 3),
        *("–" if cell is None else rate(cell) for cell in cells),
        "–" if verdict is None else "yes" if verdict else "not measurably",
    ]


def lines(result: Result) -> Iterator[str]:
    """The result for people."""
    yield f"{result['recipe']}: {audit_words(result)}"
    held, attack = result["set"], result.get("attack")
    distance = held["distance"]
    yield f"  {100 * held['source_copied']:.1f} % of the training images are in it as copies"
    yield (
        f"  distance to the nearest training image, median: of the set {distance['set']:.3g}, of test images "
        f"{distance['test']:.3g} (root mean square of pixels from 0 to 1)"
    )
    if attack is None:
        yield "  --shadows 16 makes 16 sets anew, each from a random half of the source, and attacks them"
        return
    for group, words in GROUPS.items():
        if "auc" not in (found := attack.get(group, {})):
            continue
        named = (("at 1 % false", "tpr_at_1_in_100"), ("at 0.1 % false", "tpr_at_1_in_1000"))
        told = "".join(f", {rate(found[key])} % found {when}" for when, key in named if key in found)
        judged = f"{found['members']:,} in, {found['non_members']:,} out"
        yield f"  {words}: AUC {rate(found['auc'], 1, 3)}{told} ({judged})"


GROUPS = {
    "random": "all records",
    "exposed": "the most exposed tenth",
    "used": "those in a set, or that a learned image started from",
}
