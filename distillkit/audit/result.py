"""An audit's result: how to read it and describe it. Imports nothing heavy, as report and card use it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distillkit.base.errors import ArtifactError, counted
from distillkit.base.outside import UnreadableError, content, read_json

Result = Mapping[str, Any]
FOLDER = "audit"  # in the folder of the metrics
NO_PROOF = "this does not prove that the set reveals nothing"


def read_audits(metrics: Path, recipes: Mapping[str, Any]) -> dict[str, Result]:
    """The results in ``metrics``/audit of those recipes that were audited, in their order."""
    paths = {name: metrics / FOLDER / f"{name}.json" for name in recipes}
    return {name: read_audit(path) for name, path in paths.items() if path.is_file()}


def read_audit(path: Path) -> Result:
    """Raises ArtifactError if the file is no result of an audit."""
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
    """The result in one sentence. It never says that a set is private: no attack can show that."""
    if "attack" not in result:
        return set_words(result["set"])
    attack = result["attack"]
    random, exposed, sets = attack["random"], attack["exposed"], counted(attack["shadows"], "shadow set")
    area = f"AUC {rate(random['auc'], 1, 3)}, {sets}"
    if not attack["better_than_chance"]:
        return f"Membership inference did not do measurably better than chance with {sets} ({area}); {NO_PROOF}."
    found = ""
    if "tpr_at_1_in_100" in random:
        most = f", and {rate(exposed['tpr_at_1_in_100'])} % of the most exposed" if "tpr_at_1_in_100" in exposed else ""
        found = f": it recognised {rate(random['tpr_at_1_in_100'])} % of the images that a set was made from{most}, "
        found += "with 1 % false positives"
    return f"Membership inference did better than chance{found} ({area})."


def set_words(found: Mapping[str, Any]) -> str:
    """What the set alone shows."""
    copies, near = found["copies"], found["near_copies"] - found["copies"]
    better = "did better than chance" if found["attack"]["better_than_chance"] else "did not do better than chance"
    return (
        f"Of {counted(found['images'], 'image')}, {copies:,} {'is a copy' if copies == 1 else 'are copies'} of a "
        f"training image, and {near:,} more {'is' if near == 1 else 'are'} nearer to one than 99 % of the test images "
        f"are; recognising training images by their distance to the set alone {better}. No shadow sets were made; "
        f"{NO_PROOF}."
    )


COLUMNS = (
    *("recipe", "copies", "AUC", "TPR at 1 % FPR", "TPR at 0.1 % FPR"),
    *("most exposed: TPR at 1 % FPR", "used images: TPR at 0.1 % FPR", "better than chance"),
)


def table_row(result: Result) -> list[str]:
    """The result in the cells of ``COLUMNS``, rates in percent; – if not measured."""
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
    """The result as lines of text."""
    yield f"{result['recipe']}: {audit_words(result)}"
    held, attack = result["set"], result.get("attack")
    distance = held["distance"]
    yield f"  {100 * held['source_copied']:.1f} % of the training images have a copy in the set"
    yield (
        f"  distance to the nearest training image, median: of the set {distance['set']:.3g}, of test images "
        f"{distance['test']:.3g} (root mean square of pixels from 0 to 1)"
    )
    if attack is None:
        yield "  --shadows 16 makes 16 new sets, each from a random half of the source, and attacks them"
        return
    for group, words in GROUPS.items():
        if "auc" not in (found := attack.get(group, {})):
            continue
        named = (("1 %", "tpr_at_1_in_100"), ("0.1 %", "tpr_at_1_in_1000"))
        rates = "".join(f", TPR {rate(found[key])} % at {limit} FPR" for limit, key in named if key in found)
        judged = f"{found['members']:,} members, {found['non_members']:,} non-members"
        yield f"  {words}: AUC {rate(found['auc'], 1, 3)}{rates} ({judged})"


GROUPS = {
    "random": "all records",
    "exposed": "the most exposed tenth",
    "used": "records in a set, or that a learned image started from",
}
