"""DUAL: images drawn by score and by the experts' probability of the label (Cho et al., ICML 2025).

The fewer images are kept, the easier they are.
"""

from typing import ClassVar

from torch import Generator, Tensor

from distillkit.base.about import About
from distillkit.base.errors import check_positive, check_range
from distillkit.base.settings import settings
from distillkit.data.images import SyntheticSet
from distillkit.matching.method import Material
from distillkit.selection.coresets import chosen_of
from distillkit.selection.rules import beta_weights, draw_weighted

ABOUT = About(
    title="DUAL",
    summary="Real images, unchanged, drawn with chances of score times a Beta density of the experts' mean probability "
    "of the label, which moves to easier images the fewer are kept (DUAL, Cho et al., ICML 2025); `ipc` of every "
    "class, unless `balanced` is false.",
    paper="""\
@inproceedings{cho2025dual,
  title     = {Lightweight Dataset Pruning without Full Training via Example Difficulty and Prediction Uncertainty},
  author    = {Cho, Yeseul and Shin, Baekrok and Kang, Changmin and Yun, Chulhee},
  booktitle = {International Conference on Machine Learning},
  year      = {2025},
  note      = {arXiv:2502.06905}
}""",
)


@settings
class DualSampling:
    """``ipc`` images of every class, drawn by :func:`~distillkit.selection.rules.beta_weights`.

    The score is the pipeline's; the paper uses ``score: {name: dual, epochs: 30}``. ``balanced: false`` is the
    published form: images are drawn from all classes together, ``ipc`` per class on average. ``exponent`` is that of
    the weights.
    """

    about: ClassVar = ABOUT
    ipc: int
    exponent: float = 4.0
    balanced: bool = True

    def __post_init__(self) -> None:
        check_range("ipc", self.ipc, 1)
        check_positive("exponent", self.exponent)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        real, probability_N = material.real, material.need_confidence()
        kept = min(1.0, self.ipc * len(real.class_names) / len(real))
        weight_N = beta_weights(material.need_difficulty(), probability_N, kept, self.exponent)

        def choose(rows: Tensor, count: int) -> Tensor:
            return draw_weighted(weight_N[rows], count, generator)

        return chosen_of(material, self.ipc, self.balanced, choose)
