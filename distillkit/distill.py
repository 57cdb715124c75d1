"""The outer loop: gradient steps on all that a method learns, whatever the method.

It learns images and, where the method has a use for them, the student's step sizes and the labels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

from distillkit.errors import DivergedError, ParamsError, check_positive, check_range, shown
from distillkit.images import Iterate, SyntheticSet
from distillkit.protocol import Material, Method
from distillkit.settings import settings
from distillkit.training import adam_, sgd_

ADAM_DECAYS = (0.5, 0.999)  # those of Wang et al. 2018
LEAST_PROBABILITY = 1e-6  # of a label that is learned


@settings
class Optim:
    """The outer optimiser, on images and whatever else a method learns.

    ``image_lr`` is in normalised pixels, as published. Step sizes are learned as their logarithms, so they stay
    above 0; a published rate r for a plain step size η corresponds to ``student_lr_lr`` = r / η² at the start.
    ``label_lr`` is for the logits of soft labels; without it they stay. ``rule: adam`` ignores momentum. All rates are
    multiplied by ``decay`` every ``decay_every`` steps. A step whose loss is above ``skip_above`` changes nothing.
    ``update_fraction`` below 1 changes, at each step, only that share of the learned images, those with the largest
    gradients: a reading of SelMatch found in the literature, though not in its code. ``max_move`` clips: gradients of
    long unrolls explode now and then, and one such step can undo all others; the published methods do not clip.
    With ``image_average`` d the result is not the last images x but their moving average a, from where images start:
    a ← d a + (1 − d) x after each step (FTD, Du et al. 2023, and ATT). Labels and step sizes are the last ones.
    """

    steps: int
    image_lr: float
    student_lr_init: float | None = None
    student_lr_lr: float = 0.0
    momentum: float = 0.5
    update_fraction: float = 1.0
    max_move: float | None = None
    label_lr: float | None = None
    label_momentum: float = 0.9
    rule: Literal["sgd", "adam"] = "sgd"
    decay: float = 1.0
    decay_every: int | None = None
    skip_above: float | None = None
    image_average: float | None = None

    def __post_init__(self) -> None:
        check_range("optim.steps", self.steps, 1)
        for name in ("image_lr", "student_lr_init", "update_fraction", "max_move", "label_lr", "decay", "skip_above"):
            if getattr(self, name) is not None:
                check_positive(f"optim.{name}", getattr(self, name))
        check_range("optim.student_lr_lr", self.student_lr_lr, 0)
        check_range("optim.momentum", self.momentum, 0, 0.9999)
        check_range("optim.label_momentum", self.label_momentum, 0, 0.9999)
        check_range("optim.update_fraction", self.update_fraction, 0, 1)
        check_range("optim.decay", self.decay, 0, 1)
        if self.image_average is not None:
            check_range("optim.image_average", self.image_average, 0, 0.99999)
        if self.decay_every is not None:
            check_range("optim.decay_every", self.decay_every, 1)
        if self.decay < 1 and self.decay_every is None:
            raise ParamsError(f"optim.decay is {self.decay:g}, but decay_every is missing; add it, or remove decay")
        if self.decay == 1 and self.decay_every is not None:
            raise ParamsError(
                f"optim.decay_every is {shown(self.decay_every)}, but decay is 1; expected it below 1; add decay, or "
                "remove decay_every"
            )

    def rate(self, lr: float, step: int) -> float:
        """``lr`` after ``step`` steps."""
        return lr if self.decay_every is None else lr * self.decay ** (step // self.decay_every)


class Step(NamedTuple):
    """One outer step, counted from 1: its matching loss and the student's mean step size before the update, if any."""

    step: int
    loss: float
    student_lr: float | None = None


def loss_table(history: Sequence[Step]) -> tuple[list[str], list[tuple[float, ...]]]:
    """Header and rows of the loss curve. The student's step size has no column where there is no student."""
    without = {"student_lr"} if any(step.student_lr is None for step in history) else set()
    names = [name for name in Step._fields if name not in without]
    return names, [tuple(getattr(step, name) for name in names) for step in history]


class Learned:
    """One thing that is learned: its value, and what the optimiser remembers of its gradients."""

    def __init__(self, value: Tensor, lr: float, momentum: float):
        self.value, self.lr, self.momentum = value.detach().clone().requires_grad_(), lr, momentum
        self.moments = [torch.zeros_like(self.value), torch.zeros_like(self.value)]

    def move_(self, gradient: Tensor, optim: Optim, step: int, rows: Tensor | None = None) -> None:
        """One step against the gradient, of all or of some ``rows``; the other rows keep value and moments."""
        with torch.no_grad():
            whole = [self.value.detach(), gradient, *self.moments]
            value, gradient, first, second = whole if rows is None else (part[rows] for part in whole)
            lr = optim.rate(self.lr, step)
            if optim.rule == "adam":
                adam_([value], [gradient], [first], [second], lr=lr, decays=ADAM_DECAYS, step=step + 1)
            else:
                sgd_([value], [gradient], [first], lr=lr, momentum=self.momentum)
            if rows is not None:
                self.value[rows], self.moments[0][rows], self.moments[1][rows] = value, first, second


class Distillation:
    """A run of the outer loop that can stop at any step and go on elsewhere: iterate over it, then take the result."""

    def __init__(self, method: Method, start: SyntheticSet, material: Material, optim: Optim, generator: Generator):
        self.method, self.start, self.material, self.optim, self.generator = method, start, material, optim, generator
        self.normalised_NCHW = start.normalisation.apply(start.images)
        self.rows = start.learned.nonzero().squeeze(1)
        self.images = Learned(self.normalised_NCHW[self.rows], optim.image_lr, optim.momentum)
        self.average = None if optim.image_average is None else self.images.value.detach().clone()
        self.learned = {"images": self.images}
        if (lr := initial_step_sizes(start, optim)) is not None:
            self.learned["log_lr"] = Learned(lr.log(), optim.student_lr_lr, optim.momentum)
        if start.soft_labels is not None and optim.label_lr is not None:
            logits_NK = start.soft_labels[self.rows].clamp(min=LEAST_PROBABILITY).log()
            self.learned["label_logits"] = Learned(logits_NK, optim.label_lr, optim.label_momentum)
        self.memory: dict[str, Tensor] = {}
        self.history: list[Step] = []

    def __iter__(self) -> Iterator[Step]:
        while len(self.history) < self.optim.steps:
            yield self.advance()

    def advance(self) -> Step:
        """One gradient step. Raises DivergedError, keeping the last good state, when the loss is not finite."""
        optim, done, iterate = self.optim, len(self.history), self.iterate()
        loss = self.method.loss(iterate, self.material, self.generator)
        found = torch.autograd.grad(loss, [learned.value for learned in self.learned.values()])
        gradients = dict(zip(self.learned, found, strict=True))
        record = Step(done + 1, loss.item(), iterate.student_lr.mean().item() if "log_lr" in self.learned else None)
        self.check(record, *found)
        if optim.skip_above is None or record.loss <= optim.skip_above:
            scale = clip_factor(gradients["images"], optim)
            for name, learned in self.learned.items():
                gradient = gradients[name] * scale
                moving = largest_gradients(gradient, optim.update_fraction) if learned is self.images else None
                learned.move_(gradient, optim, done, moving)
            if self.average is not None and optim.image_average is not None:
                self.average.lerp_(self.images.value.detach(), 1 - optim.image_average)
        self.history.append(record)
        return record

    @property
    def steps(self) -> int:
        return self.optim.steps

    @property
    def done(self) -> int:
        return len(self.history)

    @property
    def steps_left(self) -> int:
        return self.steps - self.done

    def iterate(self) -> Iterate:
        return Iterate(
            images_NCHW=self.normalised_NCHW.index_copy(0, self.rows, self.images.value),
            labels=self.labels(),
            student_lr=self.student_lr(),
            learned=self.start.learned,
            step=len(self.history),
            memory=self.memory,
            schedule=self.start.schedule,
        )

    def labels(self) -> Tensor:
        """Classes, or probabilities; those of learned images are learned where the optimiser has a rate for them."""
        if "label_logits" not in self.learned or self.start.soft_labels is None:
            return self.start.targets
        return self.start.soft_labels.index_copy(0, self.rows, self.learned["label_logits"].value.softmax(1))

    def student_lr(self) -> Tensor:
        if "log_lr" not in self.learned:
            return torch.tensor(float("nan"), device=self.start.images.device)
        return self.learned["log_lr"].value.exp()

    def result(self) -> SyntheticSet:
        """The set as it stands: learned images back in pixel space, real ones bit for bit as they came."""
        learned_NCHW = self.images.value.detach() if self.average is None else self.average
        pixels = self.start.normalisation.undo(learned_NCHW)
        images, lr = self.start.images.index_copy(0, self.rows, pixels), self.student_lr().detach()
        schedule, soft_labels = self.start.schedule, None if self.start.soft_labels is None else self.labels().detach()
        done = replace(self.start, images=images, soft_labels=soft_labels)
        if schedule is not None:
            return replace(done, schedule=replace(schedule, lr_T=lr))
        return done if lr.isnan() else replace(done, student_lr=lr.item())

    def check(self, record: Step, *gradients: Tensor) -> None:
        if all(value.isfinite().all() for value in (torch.tensor(record.loss), *gradients)):
            return
        optim, student, knobs = self.optim, "", f"optim.image_lr ({self.optim.image_lr:g})"
        if optim.student_lr_init is not None:
            student = f" (student step size {record.student_lr:g}, started at {optim.student_lr_init:g})"
            knobs += f", optim.student_lr_lr ({optim.student_lr_lr:g}) or optim.student_lr_init"
        elif self.start.schedule is not None:
            student, knobs = f" (mean step size {record.student_lr:g})", f"{knobs}, optim.student_lr_lr or step_size"
        raise DivergedError(
            f"distillation step {record.step}: the matching loss is {record.loss:g} and its gradient is not finite"
            f"{student}; lower {knobs}"
        )

    def state(self) -> dict[str, Tensor]:
        """Everything that the rest of the run depends on, as tensors."""
        values = {f"learned.{name}": learned.value.detach() for name, learned in self.learned.items()}
        moments = {f"{i}.{name}": part for name, x in self.learned.items() for i, part in enumerate(x.moments)}
        memory = {f"memory.{name}": value for name, value in self.memory.items()}
        memory |= {} if self.average is None else {"average": self.average}
        names, rows = loss_table(self.history)
        history = torch.tensor(rows, dtype=torch.float64).view(-1, len(names))
        return {"history": history, "generator": self.generator.get_state(), **values, **moments, **memory}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a :meth:`state`, bit for bit as if never interrupted."""
        self.history = [Step(int(step), *numbers) for step, *numbers in state["history"].tolist()]
        with torch.no_grad():
            for name, learned in self.learned.items():
                learned.value.copy_(state[f"learned.{name}"])
                for i, moment in enumerate(learned.moments):
                    moment.copy_(state[f"{i}.{name}"])
        if self.average is not None:
            self.average.copy_(state["average"])
        device = self.start.images.device
        kept = {name.removeprefix("memory."): part for name, part in state.items() if name.startswith("memory.")}
        self.memory = {name: part.to(device) for name, part in kept.items()}
        self.generator.set_state(state["generator"])


def initial_step_sizes(start: SyntheticSet, optim: Optim) -> Tensor | None:
    """One a step of the schedule, where the set has one; else one for all steps, where the optimiser gives it."""
    if start.schedule is not None:
        return start.schedule.lr_T
    lr = optim.student_lr_init
    return None if lr is None else torch.tensor(lr, device=start.images.device)


def clip_factor(gradient_NCHW: Tensor, optim: Optim) -> Tensor:
    """What to scale gradients by, so that the root mean square of η ‖∇x‖ over images is at most ``optim.max_move``."""
    move = optim.image_lr * gradient_NCHW.flatten(1).square().sum(1).mean().sqrt()
    limit = move if optim.max_move is None else move.clamp(max=optim.max_move)
    return torch.where(move > 0, limit / move, torch.ones_like(move))


def largest_gradients(gradient_NCHW: Tensor, update_fraction: float) -> Tensor:
    """Rows of the images that move at this step: the share with the largest gradient norms, at least one."""
    norm_N = gradient_NCHW.flatten(1).norm(dim=1)
    moving = max(1, round(update_fraction * len(norm_N)))
    rows: Tensor = norm_N.argsort(descending=True, stable=True)[:moving].sort().values
    return rows
