"""Networks beside the one that sets are compared with: what a set is worth to networks that it was not made with.

All are trained for as many updates, on batches of the same size, as the main network; only the learning rate is
another. Those of the usual ones were chosen once, on a fifth of the digits' training images
(``benchmarks/networks.py``, whose results are in ``benchmarks/results/networks_digits.json``).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from distillkit.base.errors import ParamsError, check_positive
from distillkit.base.settings import settings
from distillkit.networks.specs import Network, NetworkSpec

Usual = Literal["vgg11", "alexnet", "resnet18", "mlp", "vit"]


@settings
class Other:
    """A network, and the learning rate that it is trained with."""

    network: Network
    lr: float

    def __post_init__(self) -> None:
        check_positive("evaluation.others.lr", self.lr)


USUAL: dict[str, Other] = {
    "vgg11": Other(NetworkSpec("vgg11"), 0.01),
    "alexnet": Other(NetworkSpec("alexnet", "none"), 0.03),
    "resnet18": Other(NetworkSpec("resnet18"), 0.03),
    "mlp": Other(NetworkSpec("mlp", "none"), 0.03),
    "vit": Other(NetworkSpec("vit", "none"), 0.01),
}


def by_name(others: Sequence[str | Other]) -> dict[str, Other]:
    """The networks by the names that tables have: of the usual ones theirs, else the network's. Raises ParamsError."""
    names = [other if isinstance(other, str) else str(other.network) for other in others]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ParamsError(f"evaluation.others has {twice[0]} twice; expected each network once; remove one")
    return {name: USUAL[other] if isinstance(other, str) else other for name, other in zip(names, others, strict=True)}
