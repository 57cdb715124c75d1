"""Networks other than the main network of an evaluation, to test a set with networks that it was not made with.

They are trained as the main network is, with the same number of updates and batch size; only the learning rate differs.
The learning rates in ``USUAL`` were chosen once, on a fifth of the digits' training images
(``benchmarks/networks.py``, with the results in ``benchmarks/results/networks_digits.json``).
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
    """A network, and the learning rate for its training."""

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
    """The networks by the names in tables: those in ``USUAL`` by their names there, others by the network's text.

    Raises ParamsError when a name occurs twice.
    """
    names = [other if isinstance(other, str) else str(other.network) for other in others]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ParamsError(f"evaluation.others has {twice[0]} twice; expected each network once; remove one")
    return {name: USUAL[other] if isinstance(other, str) else other for name, other in zip(names, others, strict=True)}
