"""distillkit: dataset distillation with DVC stages, a PyTorch core and Hugging Face datasets.

In Python: ``import distillkit as dk``, see :mod:`distillkit.api`. Nothing heavy is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distillkit.api.experts import train_experts
    from distillkit.api.functions import distill, evaluate
    from distillkit.api.images import fetch, from_arrays, from_torch, load
    from distillkit.api.publishing import save_package
    from distillkit.api.sets import Data, DistilledSet, Evaluation
    from distillkit.networks.specs import NetworkSpec

__version__ = "0.1.0"
__all__ = [
    "Data",
    "DistilledSet",
    "Evaluation",
    "NetworkSpec",
    "distill",
    "evaluate",
    "fetch",
    "from_arrays",
    "from_torch",
    "load",
    "save_package",
    "train_experts",
]
WHERE = {
    **dict.fromkeys(("distill", "evaluate"), "api.functions"),
    "train_experts": "api.experts",
    **dict.fromkeys(("fetch", "from_arrays", "from_torch", "load"), "api.images"),
    **dict.fromkeys(("Data", "DistilledSet", "Evaluation"), "api.sets"),
    "save_package": "api.publishing",
    "NetworkSpec": "networks.specs",
}


def __getattr__(name: str) -> Any:
    if name not in WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{WHERE[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
