"""Default numbers: ``init`` writes them into params.yaml, and the Python API uses them for missing arguments.

They are parts of the text of params.yaml, with comments. ``$name`` is computed from the images and images per class.
"""

from dataclasses import dataclass
from math import ceil, log2
from string import Template
from typing import Any

from distillkit.base.outside import read_yaml

WINDOW = """\
window_start:   # chosen on a held-out share of the training images
  candidates: [$starts]  # fraction of the class, counted hardest first
  holdout: 0.2
  runs: 2
  training: {steps: $scan_steps, batch: 50, lr: 0.05}
"""
MATCHING = """\
matching:
  student_steps: $student_steps   # inner steps on the synthetic set
  student_batch: $student_batch
  expert_epochs: $expert_epochs    # expert epochs that they must cover
  max_start_epoch: $max_start_epoch # start epochs are drawn below this
optim:
  steps: $matching_steps
  image_lr: $image_lr        # in normalised pixels
  max_move: 0.2       # no step moves images further: root mean square over images, in normalised pixels
  student_lr_init: 0.05
  student_lr_lr: 0.01 # of the step size relative to its start
"""
FRACTION = "distill_fraction: $learned # the easier part of the window is learned, the harder part stays real\n"
CONDENSING = "matching: {inner_epochs: 20, network_lr: 0.05}  # trains the matched networks between updates\n"
SLOW = (
    "optim: {steps: 200, image_lr: 0.3, momentum: 0.5}  # good on 8x8 digits; published for CIFAR-10: 10000 and 0.1\n"
)
RECIPES: dict[str, str] = {  # settings of each method, without ipc; other methods need none
    "window": WINDOW,
    "mtt": MATCHING,
    "att": MATCHING,
    "selmatch": WINDOW + FRACTION + MATCHING,
    "ccs": "hardest_dropped: 0.1  # share of each class to drop as probably mislabelled; adapt it\n",
    "dm": """\
augmentation: {kind: none}  # published: dsa; leave out flip where left and right matter
optim: {steps: 200, image_lr: $mean_lr, momentum: 0.5}  # good on 8x8 digits; published for CIFAR-10: 20000 and 1
""",
    "dc": "start: random\n" + CONDENSING + SLOW,
    "dsa": "start: random\n"
    + CONDENSING
    + "augmentation: {kind: dsa, operations: [crop, scale, rotate]}  # published: also color, cutout and flip\n"
    + SLOW,
    "optimised": """\
sets: 20
runs: 2
holdout: 0.2
training: {steps: 100, batch: 50, lr: 0.05}
""",
    "dd": """\
steps: $dd_steps
epochs: $dd_epochs
step_size: 0.1
real_batch: 512
network: {name: convnet, depth: $depth, width: 32, norm: instance}
optim: {steps: 150, rule: adam, image_lr: 0.1, student_lr_lr: 0.02, decay: 0.5, decay_every: 40}
""",
    "diffusion": """\
model:
  network: {kind: unet, widths: [16, 32], layers: 1}
  training: {steps: 1500, batch: 64, lr: 2.0e-3, average: 0.995}
sampling: {steps: 25, guidance: 3, guided: [0.1, 0.6]}
""",
}
EXPERTS_COUNT = 8  # in total: two shards
EXPERTS = """\
experts:
  per_shard: $per_shard
  recipe:
    network: {name: convnet, depth: $depth, width: $width, norm: batch}
    epochs: $epochs
    batch: $expert_batch
    lr: 0.05              # constant, no momentum
"""
EVALUATION = """\
evaluation:               # one recipe and one number of updates for every set; hard labels
  network: {name: convnet, depth: $depth, width: $width, norm: batch}
  training: {steps: $steps, batch: $batch, lr: 0.05}  # SGD, momentum 0.9, cosine
  runs: $runs
"""


@dataclass(frozen=True)
class Effort:
    """How much is spent: width of the networks, experts of a shard and their epochs, outer steps of trajectory
    matching, evaluation networks, and training images of each class (None: all).
    """

    width: int = 32
    per_shard: int = 4
    epochs: int = 12
    steps: int = 90
    runs: int = 5
    per_class: int | None = None


@dataclass(frozen=True)
class Facts:
    """The facts that the numbers depend on: ``size`` (height, width), ``classes``, the number of training ``images``,
    and the experts' ``epochs``.
    """

    size: tuple[int, int]
    classes: int
    images: int
    epochs: int = 12
    effort: Effort = Effort()

    def numbers(self, ipc: int) -> dict[str, Any]:
        """The values of all ``$name``. The ConvNet halves images down to 4 pixels (images of 8 to 2).

        With one image per class, it uses early and short parts of trajectories, as published, and smaller steps for DM.
        In trajectory matching, the student sees every image once in an outer step, as far as 30 inner steps allow. The
        gradient of an image falls as the number of images that the student sees grows, so ``image_lr`` grows with it:
        measured on CIFAR-10 at 10 to 1,000 images per class (studies/cifar10/gradients.py). A set of less than 2 % of
        the images starts with easier ones: on held-out images of CIFAR-10, the best start of a window was 0.9 at 1 %,
        0.6 at 5 % and 0.5 from 10 % on (docs/results.md).
        """
        side, batch = max(self.size), 50 if self.classes <= 10 else 128
        alone, dd_steps = ipc == 1, max(steps for steps in range(1, 6) if ipc % steps == 0)
        covered, total, steps = 1 if alone else 2, self.classes * ipc, 200 if side <= 16 else 500
        student_batch = min(batch if ipc <= 50 else 128, total)
        student_steps = 20 if alone else min(30, max(10, ceil(total / student_batch)))
        seen = min(total, student_steps * student_batch)
        return {
            "depth": max(1, ceil(log2(side)) - 2) if side > 8 else 2 if side == 8 else 1,
            "batch": batch,
            "expert_batch": 64 if self.images <= 5_000 else 128,
            "student_batch": student_batch,
            "steps": steps,
            "scan_steps": steps // 2,
            "student_steps": student_steps,
            "image_lr": max(30, round(0.3 * seen)),
            "expert_epochs": covered,
            "max_start_epoch": max(1, min(5 if alone else 10, self.epochs - covered + 1)),
            "starts": "0.6, 0.7, 0.8, 0.9" if 50 * total < self.images else "0.2, 0.4, 0.6, 0.8",
            "learned": 1.0 if alone else min(0.8, round(1 - 1 / ipc, 2)),  # at least one image of a class stays real
            "mean_lr": 0.5 if alone else 3,
            "width": self.effort.width,
            "per_shard": self.effort.per_shard,
            "epochs": self.effort.epochs,
            "matching_steps": self.effort.steps,
            "runs": self.effort.runs,
            "dd_steps": dd_steps,
            "dd_epochs": 10 if dd_steps == 1 else 3,
        }


def filled(text: str, facts: Facts, ipc: int = 1) -> str:
    """A text with its numbers filled in."""
    return Template(text).substitute(facts.numbers(ipc))


def values(text: str, facts: Facts, ipc: int = 1) -> dict[str, Any]:
    """A text with its numbers filled in, parsed as the stages do."""
    found: dict[str, Any] = read_yaml(filled(text, facts, ipc).encode()) or {}
    return found
