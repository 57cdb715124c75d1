"""The methods by the name that recipes use, in the order of tables. A new method is one file and a line below.

A method of another package is an entry point of the group ``distillkit.methods``: the name that recipes use, and the
class. It is imported when a recipe names it. A name in ``METHODS`` always means the method of distillkit.
"""

from dataclasses import is_dataclass
from importlib.metadata import entry_points

from distillkit.base.about import About
from distillkit.base.errors import ParamsError
from distillkit.base.names import hint
from distillkit.matching.method import Selection
from distillkit.methods.generator.diffusion import Diffusion
from distillkit.methods.learning.att import AutomaticTrajectories
from distillkit.methods.learning.ccfs import CurriculumSelection
from distillkit.methods.learning.dc import DatasetCondensation, SiameseCondensation
from distillkit.methods.learning.dd import DatasetDistillation
from distillkit.methods.learning.dm import DistributionMatching
from distillkit.methods.learning.mtt import TrajectoryMatching
from distillkit.methods.learning.selmatch import SelMatch
from distillkit.networks.factories import OTHERS
from distillkit.selection.confident import ConfidentSubset
from distillkit.selection.coresets import CoverageCentric, Herding, KCentre, Moderate
from distillkit.selection.dual import DualSampling
from distillkit.selection.full import FullSet
from distillkit.selection.imported import Imported
from distillkit.selection.means import Centroids, ClassMeans
from distillkit.selection.optimised import OptimisedSubset
from distillkit.selection.random_subset import RandomSubset
from distillkit.selection.rded import RealisticCrops
from distillkit.selection.window import WindowSubset

GROUP = "distillkit.methods"
METHODS: dict[str, type[Selection]] = {
    "full": FullSet,
    "random": RandomSubset,
    "window": WindowSubset,
    "confident": ConfidentSubset,
    "herding": Herding,
    "k-centre": KCentre,
    "moderate": Moderate,
    "ccs": CoverageCentric,
    "dual": DualSampling,
    "optimised": OptimisedSubset,
    "kmeans": Centroids,
    "average": ClassMeans,
    "rded": RealisticCrops,
    "diffusion": Diffusion,
    "dd": DatasetDistillation,
    "dm": DistributionMatching,
    "dc": DatasetCondensation,
    "dsa": SiameseCondensation,
    "mtt": TrajectoryMatching,
    "att": AutomaticTrajectories,
    "selmatch": SelMatch,
    "ccfs": CurriculumSelection,
    "imported": Imported,
}


def names() -> list[str]:
    """All names that recipes can use: those in ``METHODS``, then those of other installed packages."""
    return list(dict.fromkeys([*METHODS, *sorted(entry_points(group=GROUP).names)]))


def method_called(name: str) -> type[Selection]:
    """The class of a method of distillkit or of another installed package.

    Raises ParamsError for an unknown name, and for a class of another package that cannot be imported or is not a
    method.
    """
    if name in METHODS:
        return METHODS[name]
    found = tuple(entry_points(group=GROUP, name=name))
    if not found:
        raise ParamsError(f"method is {name!r}{hint(name, names())}; expected one of {', '.join(names())}")
    package = found[0].dist.name if found[0].dist else "a package"
    try:
        kind: type[Selection] = found[0].load()
    except Exception as error:  # an import of other code raises errors of many types
        reason = " ".join(str(error).split())
        raise ParamsError(
            f"method {name!r} of {package} cannot be imported ({reason}); install what it needs"
        ) from None
    if not (is_dataclass(kind) and isinstance(getattr(kind, "about", None), About) and hasattr(kind, "init")):
        raise ParamsError(
            f"method {name!r} of {package} is {found[0].value}; expected a class of settings with about and init; "
            "see CONTRIBUTING, a new method"
        )
    OTHERS[name] = kind  # unfinished work continues only if this code is unchanged
    return kind
