"""The methods by the name that recipes use, in the order of tables. A new one is a file here and a line below."""

from distillkit.matching.method import Selection
from distillkit.methods.generator.diffusion import Diffusion
from distillkit.methods.learning.att import AutomaticTrajectories
from distillkit.methods.learning.dc import DatasetCondensation, SiameseCondensation
from distillkit.methods.learning.dd import DatasetDistillation
from distillkit.methods.learning.dm import DistributionMatching
from distillkit.methods.learning.mtt import TrajectoryMatching
from distillkit.methods.learning.selmatch import SelMatch
from distillkit.methods.selection.confident import ConfidentSubset
from distillkit.methods.selection.coresets import CoverageCentric, Herding, KCentre, Moderate
from distillkit.methods.selection.full import FullSet
from distillkit.methods.selection.imported import Imported
from distillkit.methods.selection.means import Centroids, ClassMeans
from distillkit.methods.selection.optimised import OptimisedSubset
from distillkit.methods.selection.random_subset import RandomSubset
from distillkit.methods.selection.window import WindowSubset

METHODS: dict[str, type[Selection]] = {
    "full": FullSet,
    "random": RandomSubset,
    "window": WindowSubset,
    "confident": ConfidentSubset,
    "herding": Herding,
    "k-centre": KCentre,
    "moderate": Moderate,
    "ccs": CoverageCentric,
    "optimised": OptimisedSubset,
    "kmeans": Centroids,
    "average": ClassMeans,
    "diffusion": Diffusion,
    "dd": DatasetDistillation,
    "dm": DistributionMatching,
    "dc": DatasetCondensation,
    "dsa": SiameseCondensation,
    "mtt": TrajectoryMatching,
    "att": AutomaticTrajectories,
    "selmatch": SelMatch,
    "imported": Imported,
}
