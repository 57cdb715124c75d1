"""The outer loop: gradient steps on the images and, depending on the method, on the step sizes and the labels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from distillkit.base.errors import DivergedError
from distillkit.data.images import Iterate, SyntheticSet
from distillkit.matching.method import Material, Method
from distillkit.matching.optim import Learned, Optim, Rows, StepSizes, clip_share, largest_gradients

LEAST_PROBABILITY = 1e-6  # of a class in the initial soft labels
LEAST_STEP_SIZE = 0.01  # relative to its start; below it, the student does not recover
STEPS_AT_REST = 50  # in a row with loss 1, the loss of a student that does not move


class Step(NamedTuple):
    """One outer step: its number from 1, the matching loss, and the student's mean step size before the update, if
    any.
    """

    step: int
    loss: float
    student_lr: float | None = None


def loss_table(history: Sequence[Step]) -> tuple[list[str], list[tuple[float, ...]]]:
    """Header and rows of the loss curve. Without a student, there is no column for its step size."""
    without = {"student_lr"} if any(step.student_lr is None for step in history) else set()
    names = [name for name in Step._fields if name not in without]
    return names, [tuple(getattr(step, name) for name in names) for step in history]


class Distillation:
    """A run of the outer loop that can stop at any step and continue later: iterate over it, then call
    :meth:`result`.
    """

    def __init__(self, method: Method, start: SyntheticSet, material: Material, optim: Optim, generator: Generator):
        self.method, self.start, self.material, self.optim, self.generator = method, start, material, optim, generator
        self.normalised_NCHW = start.normalisation.apply(start.pixels())
        self.rows = start.learned.nonzero().squeeze(1)
        self.images = Learned(self.normalised_NCHW[self.rows], optim.image_lr, optim.momentum)
        self.average = None if optim.image_average is None else self.images.value.detach().clone()
        self.learned = {"images": self.images}
        lr = initial_step_sizes(start, optim)
        self.step_sizes = None if lr is None else StepSizes(lr, optim)
        if self.step_sizes is not None:
            self.learned["step_sizes"] = self.step_sizes.learned
        if start.soft_labels is not None and optim.label_lr is not None:
            logits_NK = start.soft_labels[self.rows].clamp(min=LEAST_PROBABILITY).log()
            self.learned["label_logits"] = Learned(logits_NK, optim.label_lr, optim.label_momentum)
        self.memory: dict[str, Tensor] = {}
        self.history: list[Step] = []
        self.snapshot_steps = optim.snapshot_steps
        self.snapshots: dict[int, Tensor] = {}  # learned images by step, 8 bits

    def __iter__(self) -> Iterator[Step]:
        while len(self.history) < self.optim.steps:
            yield self.advance()

    def advance(self) -> Step:
        """One gradient step. A loss above ``optim.skip_above`` is recorded, but changes nothing.

        Raises DivergedError, and changes no learned value, when the loss or a gradient is not finite, or when the
        student has stopped.
        """
        optim, done, iterate = self.optim, len(self.history), self.iterate()
        loss = self.method.loss(iterate, self.material, self.generator)
        found = torch.autograd.grad(loss, [learned.value for learned in self.learned.values()])
        gradients = dict(zip(self.learned, found, strict=True))
        record = Step(done + 1, loss.item(), None if self.step_sizes is None else iterate.student_lr.mean().item())
        self.check(record, *found)
        if optim.skip_above is None or record.loss <= optim.skip_above:
            self.move_(gradients)
        self.history.append(record)
        if record.step in self.snapshot_steps:
            self.snapshots[record.step] = (self.learned_pixels().clamp(0, 1) * 255).round().to(torch.uint8)
        return record

    def move_(self, gradients: Mapping[str, Tensor]) -> None:
        """One step of all learned values. If the images would move more than ``optim.max_move``, it is shortened."""
        optim, done = self.optim, len(self.history)
        rows: dict[str, Rows] = dict.fromkeys(self.learned, ...)
        if optim.update_fraction < 1:
            rows["images"] = largest_gradients(gradients["images"], optim.update_fraction)
        moved = {name: x.step(gradients[name], optim, done, rows[name]) for name, x in self.learned.items()}
        share = clip_share(self.images.value.detach()[rows["images"]], moved["images"].value, optim.max_move)
        for name, learned in self.learned.items():
            learned.take_(moved[name], share, optim, rows[name])
        if self.average is not None and optim.image_average is not None:
            self.average.lerp_(self.images.value.detach(), 1 - optim.image_average)

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
        """Classes (N,) or probabilities (N, K). Those of learned images are learned if the optimiser has
        ``label_lr``.
        """
        if "label_logits" not in self.learned or self.start.soft_labels is None:
            return self.start.targets
        return self.start.soft_labels.index_copy(0, self.rows, self.learned["label_logits"].value.softmax(1))

    def student_lr(self) -> Tensor:
        if self.step_sizes is None:
            return torch.tensor(float("nan"), device=self.start.labels.device)
        return self.step_sizes.values()

    def learned_pixels(self) -> Tensor:
        """The current learned images, in pixel space."""
        learned_NCHW = self.images.value.detach() if self.average is None else self.average
        return self.start.normalisation.undo(learned_NCHW)

    def result(self) -> SyntheticSet:
        """The current set: learned images in pixel space, real images with unchanged bits."""
        pixels = self.learned_pixels()
        images, lr = self.start.pixels().index_copy(0, self.rows, pixels), self.student_lr().detach()
        schedule, soft_labels = self.start.schedule, None if self.start.soft_labels is None else self.labels().detach()
        done = replace(self.start, images=images, soft_labels=soft_labels)
        if schedule is not None:
            return replace(done, schedule=replace(schedule, lr_T=lr))
        return done if lr.isnan() else replace(done, student_lr=lr.item())

    def check(self, record: Step, *gradients: Tensor) -> None:
        if all(value.isfinite().all() for value in (torch.tensor(record.loss), *gradients)):
            self.check_student(record)
            return
        optim, student, knobs = self.optim, "", f"optim.image_lr ({self.optim.image_lr:g})"
        if optim.student_lr_init is not None:
            student = f" (student step size {record.student_lr:g}, started at {optim.student_lr_init:g})"
            knobs += f", optim.student_lr_lr ({optim.student_lr_lr:g}) or optim.student_lr_init"
        elif self.start.schedule is not None:
            student, knobs = f" (mean step size {record.student_lr:g})", f"{knobs}, optim.student_lr_lr or step_size"
        found = f"the matching loss is {record.loss:g} and its gradient is not finite{student}"
        raise DivergedError(f"distillation step {record.step}: {found}; lower {knobs}")

    def check_student(self, record: Step) -> None:
        """Raise DivergedError when the student has stopped: its step size fell below 1 % of its start, or the loss
        stays at 1.
        """
        if self.step_sizes is None or record.student_lr is None:
            return
        start, lower = self.step_sizes.start.mean().item(), f"lower optim.student_lr_lr ({self.optim.student_lr_lr:g})"
        if record.student_lr < LEAST_STEP_SIZE * start:
            raise DivergedError(
                f"distillation step {record.step}: the student's step size fell from {start:g} to "
                f"{record.student_lr:g}, so it hardly learns from the images any more; {lower}"
            )
        recent = [*self.history[1 - STEPS_AT_REST :], record]
        if len(recent) == STEPS_AT_REST and all(abs(step.loss - 1) < 1e-6 for step in recent):
            raise DivergedError(
                f"distillation step {record.step}: the matching loss has been 1 for {STEPS_AT_REST} steps, so the "
                f"student does not move (step size {record.student_lr:g}, started at {start:g}); "
                f"raise optim.student_lr_init or {lower}"
            )

    def state(self) -> dict[str, Tensor]:
        """Everything that the remaining run depends on, as tensors."""
        values = {f"learned.{name}": learned.value.detach() for name, learned in self.learned.items()}
        moments = {f"{i}.{name}": part for name, x in self.learned.items() for i, part in enumerate(x.moments)}
        memory = {f"memory.{name}": value for name, value in self.memory.items()}
        memory |= {} if self.average is None else {"average": self.average}
        memory |= {f"snapshot.{step}": images for step, images in self.snapshots.items()}
        names, rows = loss_table(self.history)
        history = torch.tensor(rows, dtype=torch.float64).view(-1, len(names))
        return {"history": history, "generator": self.generator.get_state(), **values, **moments, **memory}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a :meth:`state`, with the same bits as without interruption."""
        self.history = [Step(int(step), *numbers) for step, *numbers in state["history"].tolist()]
        with torch.no_grad():
            for name, learned in self.learned.items():
                learned.value.copy_(state[f"learned.{name}"])
                for i, moment in enumerate(learned.moments):
                    moment.copy_(state[f"{i}.{name}"])
        if self.average is not None:
            self.average.copy_(state["average"])
        device = self.start.labels.device
        kept = {name.removeprefix("memory."): part for name, part in state.items() if name.startswith("memory.")}
        self.memory = {name: part.to(device) for name, part in kept.items()}
        taken = {name.removeprefix("snapshot."): part for name, part in state.items() if name.startswith("snapshot.")}
        self.snapshots = {int(step): part.to(device) for step, part in taken.items()}
        self.generator.set_state(state["generator"])


def initial_step_sizes(start: SyntheticSet, optim: Optim) -> Tensor | None:
    """The step sizes (T,) of the set's schedule if it has one, else the optimiser's single one, or None."""
    if start.schedule is not None:
        return start.schedule.lr_T
    lr = optim.student_lr_init
    return None if lr is None else torch.tensor(lr, device=start.labels.device)
