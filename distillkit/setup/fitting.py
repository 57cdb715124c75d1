"""Numbers that make a pipeline of ``init`` fit a given time on this machine."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import ceil
from typing import Any

from distillkit.base.errors import MOST, ParamsError
from distillkit.base.outside import read_yaml
from distillkit.estimates.duration import in_stages, in_words, seconds_of
from distillkit.estimates.resources import Images
from distillkit.estimates.speeds import Speeds, speeds_of
from distillkit.process.progress import tell
from distillkit.setup.defaults import Effort

# From what is usual to the least that still says something: first fewer experts and steps, then a smaller network, then
# fewer images. Each is cheaper than the one before.
LEVELS = (
    Effort(),
    Effort(per_shard=2),
    Effort(per_shard=2, steps=60),
    Effort(per_shard=2, steps=60, width=16),
    Effort(per_shard=2, steps=60, width=16, per_class=1000),
    Effort(per_shard=2, steps=40, width=16, per_class=500, runs=3),
    Effort(per_shard=1, steps=40, width=16, per_class=250, runs=3),
    Effort(per_shard=1, steps=20, width=8, per_class=100, runs=3, epochs=8),
)


def budget(
    minutes: int | None,
    most_ipc: int,
    text_for: Callable[[Effort], str],
    images_for: Callable[[int | None], Images],
    largest: int,
) -> tuple[Effort, tuple[str, ...]]:
    """The effort that fits into ``minutes``, and what to say about the time.

    Raises ParamsError if nothing fits. Without ``minutes``, an estimate that fails is reported and stops nothing.
    """
    try:
        effort, seconds = fitting(minutes, most_ipc, text_for, images_for, largest)
    except ParamsError as error:
        if minutes is not None:
            raise
        return Effort(), (f"time: not estimated ({error})",)
    return effort, tuple(budget_words(seconds, minutes, effort))


def fitting(
    minutes: int | None,
    most_ipc: int,
    text_for: Callable[[Effort], str],
    images_for: Callable[[int | None], Images],
    largest: int = MOST,
) -> tuple[Effort, Mapping[str, float]]:
    """The first level of effort that takes at most so many minutes, and its seconds by stage; the usual one without.

    ``images_for`` gives the images with a cap on each class, of which the largest has ``largest``. Raises ParamsError
    where not even the last level fits.
    """
    tell("timing some training steps on this machine, to say how long the pipeline will take")
    speeds: dict[int, Speeds] = {}  # by width of the networks: fewer images and steps change none
    least, seconds = 0.0, dict[str, float]()
    for effort in (with_room(level, most_ipc, largest) for level in LEVELS):
        data: Any = read_yaml(text_for(effort).encode())
        images = images_for(effort.per_class)
        if effort.width not in speeds:
            speeds[effort.width] = speeds_of(data, images)
        seconds = seconds_of(data, images, speeds[effort.width])
        least = sum(seconds.values())
        if minutes is None or least <= 60 * minutes:
            return effort, seconds
    raise ParamsError(
        f"--minutes is {minutes}, but the least that init offers takes about {in_words(least)} here "
        f"({in_stages(seconds)}); give --minutes {ceil(least / 60)}, or fewer --ipc and --method than now"
    )


def with_room(effort: Effort, ipc: int, largest: int = MOST) -> Effort:
    """With twice as many images of each class as a set takes, for a window to move; all where no class has more."""
    most = max(effort.per_class or largest, 2 * ipc)
    return replace(effort, per_class=most if most < largest else None)


def budget_words(seconds: Mapping[str, float], minutes: int | None, effort: Effort) -> Iterator[str]:
    """What is said of it, stage by stage; and what was changed to make it fit."""
    total = in_words(sum(seconds.values()))
    yield f"time: about {total} for all stages if this machine does nothing else ({in_stages(seconds)})"
    if minutes is None:
        return
    if effort == Effort():
        yield f"the usual numbers fit into {minutes} min"
    else:
        usual = vars(Effort())
        changes = ", ".join(
            f"{name} {value}" + ("" if usual[name] is None else f" instead of {usual[name]}")
            for name, value in vars(effort).items()
            if value != usual[name]
        )
        yield f"to fit {minutes} min: {changes}; sets will be less accurate than with the usual numbers"
