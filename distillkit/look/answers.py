"""What a reader asks first, answered in sentences from the numbers of the page."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import Any

import torch
from torch import Tensor

from distillkit.base.errors import counted
from distillkit.look.coverage import TENTHS, tenths
from distillkit.look.facts import Facts, rows_beside
from distillkit.look.opening import Subject
from distillkit.package.card_words import network, title
from distillkit.package.card_words import percent as spread
from distillkit.process.progress import presentable
from distillkit.report.words import percent, shorten

NEAR = 0.5  # of the yardstick: nearer to a training image than that is worth a look
NAMED = 3  # classes in a sentence
KINDS = {"random": "as many random images", "full": "all images"}
Answer = tuple[str, str]  # a sentence, and the state or part of the page that shows what it speaks of; empty for none


def answers(subject: Subject, facts: Facts, rows: Sequence[Any], pairs: Sequence[Any]) -> list[Answer]:
    """What the set is, how good it is, what it loses and leaves out, what changed most, and what is visible."""
    learned_N = subject.synthetic.learned[facts.row_N]
    found = (
        introduction(subject),
        accurate(subject),
        lost(rows),
        below_random(rows),
        worst(rows, pairs),
        grain(subject),
        moved_most(subject, facts, learned_N),
        left_out(facts, learned_N),
        private(subject, facts, learned_N),
    )
    return [(words.replace(" %", "\u00a0%"), state) for words, state in chain.from_iterable(found)]


def named(subject: Subject) -> str:
    """The set's name and size, and the name of its source where it has one."""
    source = presentable(str(subject.version.source.get("id", "")))
    size = counted(len(subject.synthetic), "image")
    return f"{presentable(subject.version.label)}: {size}" + (f" for those of {source}" if source else "")


def introduction(subject: Subject) -> Iterator[Answer]:
    """What the set is, what of, how much of that, and by which method."""
    synthetic, version = subject.synthetic, subject.version
    train = subject.provenance.get("source_images", {}).get("train") or (subject.real and len(subject.real.train))
    those = f"the {counted(train, 'training image')}" if train else "the training images"
    source = f" of {presentable(str(version.source['id']))}" if version.source.get("id") else ""
    size = f" ({percent(len(synthetic) / train)} % as many)" if train else ""
    made = f" by the method {title(version.params['method'])}" if "method" in version.params else ""
    learned = int(synthetic.learned.sum())
    whole = f"{counted(len(synthetic), 'image')} in {counted(len(synthetic.class_names), 'class')}"
    kinds = f"{learned:,} learned, {len(synthetic) - learned:,} real"
    yield f"A training set of {whole}, made{made} to replace {those}{source}{size}: {kinds}.", ""


def accurate(subject: Subject) -> Iterator[Answer]:
    """The accuracy of the whole set, beside those of random and of all images, and how it was measured."""
    if subject.version.accuracy is None:
        return
    found = {"this set": subject.version.accuracy, **{KINDS[kind]: one for kind, one in subject.beside.items()}}
    figures = ", ".join(f"{spread(accuracy)} with {kind}" for kind, accuracy in found.items())
    yield f"Accuracy: {figures}. ± is over n networks, not over repeated distillations.", ""
    if evaluation := subject.version.evaluation:
        own = subject.synthetic.schedule is not None  # which says how to train, and may start from trained weights
        trained = "with the steps that are in the set" if own else f"for {evaluation['training']['steps']:,} updates"
        tested = subject.provenance.get("source_images", {}).get("test")
        test = f" and tested on {counted(tested, 'image')}" if tested else ""
        yield f"Each network is a {network(evaluation['network']).replace('`', '')}, trained {trained}{test}.", ""


def lost(rows: Sequence[Any]) -> Iterator[Answer]:
    """The class that is furthest below what all images give."""
    if any(row["set"] is None or row["full"] is None for row in rows):
        return
    label = max(range(len(rows)), key=lambda label: rows[label]["full"] - rows[label]["set"])
    if rows[label]["set"] < rows[label]["full"]:
        words = f"Against networks trained on all images, the set loses most in class {instead(rows[label], 'full')}."
        yield words, f"class={label}"


def below_random(rows: Sequence[Any]) -> Iterator[Answer]:
    """The classes that as many random images teach better."""
    worse = [row for row in rows if row["set"] is not None and row["random"] is not None and row["set"] < row["random"]]
    worse.sort(key=lambda row: row["set"] - row["random"])
    if worse:
        first = ", ".join(instead(row, "random") for row in worse[:NAMED])
        more = f" and {len(worse) - NAMED:,} more" if len(worse) > NAMED else ""
        yield f"As many random images are better in {counted(len(worse), 'class')}: {first}{more}.", "classes"


def instead(row: Any, kind: str) -> str:
    return f"{shorten(row['name'])} ({percent(row['set'])} % instead of {percent(row[kind])} %)"


def worst(rows: Sequence[Any], pairs: Sequence[Any]) -> Iterator[Answer]:
    """The worst class, and what it is taken for."""
    measured = [label for label, row in enumerate(rows) if row["set"] is not None]
    if not measured:
        return
    label = min(measured, key=lambda label: rows[label]["set"])
    row, name = rows[label], shorten(rows[label]["name"])
    beside = [f"{percent(row[kind])} % with {words}" for kind, words in KINDS.items() if row[kind] is not None]
    more = f" ({', '.join(beside)})" if beside else ""
    words = f"The worst class is {name}: {percent(row['set'])} % of its test images are right{more}."
    if taken := next((pair for pair in pairs if pair["class"] == label), None):
        other = shorten(rows[taken["taken"]]["name"])
        words += f" {percent(taken['count'] / taken['of'])} % are taken for {other}."
    yield words, f"class={label}"


def grain(subject: Subject) -> Iterator[Answer]:
    """How much a single test image counts in the accuracy of its class."""
    if not subject.confused or subject.version.accuracy is None:
        return
    seen: Counter[int] = Counter()
    for label, _, count in subject.confused:
        seen[label] += count
    runs = subject.version.accuracy["runs"]
    fewest, most = (max(1, count // runs) for count in (min(seen.values()), max(seen.values())))
    tested = counted(most, "test image") if fewest == most else f"{fewest:,} to {counted(most, 'test image')}"
    wrong = f"all {runs} networks get" if runs > 1 else "the network gets"
    share = f"up to {percent(1 / fewest)} %"
    yield f"A class has {tested}: one that {wrong} wrong lowers the accuracy of its class by {share}.", ""


def moved_most(subject: Subject, facts: Facts, learned_N: Tensor) -> Iterator[Answer]:
    """The learned image that is furthest from its beginning."""
    moved_N = torch.where(learned_N, facts.moved_N, torch.nan).nan_to_num(-1)
    if not bool((moved_N >= 0).any()):
        return
    place = int(moved_N.argmax())
    row, synthetic = int(facts.row_N[place]), subject.synthetic
    where = f"image {row}, of class {shorten(synthetic.class_names[int(synthetic.labels[row])])}"
    far = f"it moved {moved_N[place]:.3f} from its beginning (root mean square, pixels from 0 to 1)"
    words = f"Changed most: {where}; {far}."
    yield words, f"kind=learned&sort=moved&down=yes&together=yes&image={row}"


def left_out(facts: Facts, learned_N: Tensor) -> Iterator[Answer]:
    """The tenths of the source by difficulty that nothing comes from."""
    empty = [not sum(each.values()) for each in tenths(facts, learned_N)]
    width, ranges = 100 // TENTHS, []
    for nothing, group in groupby(range(TENTHS), key=lambda tenth: empty[tenth]):
        if nothing:
            part = list(group)
            ranges.append(f"{width * part[0]} to {width * (part[-1] + 1)} %")
    if ranges and not all(empty):
        words = "Of each class, sorted from the easiest (0 %) to the hardest image (100 %), nothing comes from"
        yield f"{words} {' and '.join(ranges)}.", "coverage"


def private(subject: Subject, facts: Facts, learned_N: Tensor) -> Iterator[Answer]:
    """What of the source the set shows, and what this page shows beside it."""
    if real := int((~learned_N).sum()):
        yield (
            f"{counted(real, 'image')} of {len(learned_N):,} {'is an image' if real == 1 else 'are images'} of the "
            "source, unchanged: everybody who has the set can see them.",
            "kind=real",
        )
    distance_N = facts.distance_N[learned_N].round(decimals=5)  # as the page has it
    if facts.yardstick and bool((~distance_N.isnan()).any()):
        limit, begun_N = f"{NEAR * facts.yardstick:.3g}", facts.start_N[learned_N]
        still = int(((begun_N >= 0) & (begun_N == facts.nearest_N[learned_N])).sum())
        near = int((distance_N <= float(limit)).sum())
        yield (
            f"For {still:,} of {len(distance_N):,} learned images, the nearest training image is the one that they "
            f"began as. {near:,} are at most {limit} from a training image. That is half the median distance from a "
            f"training image to the nearest other one ({facts.yardstick:.4f}). The smallest distance is "
            f"{distance_N.min():.4f}.",
            f"kind=learned&distanceTo={limit}&sort=distance&together=yes",
        )
    if subject.real is not None and (rows := rows_beside(facts, learned_N)):
        yield (
            f"This page also shows {counted(len(set(rows) - set(facts.start_N[~learned_N].tolist())), 'image')} of the "
            "source that are not in the set, with their rows: those that learned images began as, and those nearest to "
            "them. distillkit look --without-source leaves them out.",
            "",
        )
