"""The methods by the name that recipes use, in the order of tables. A new one is a file here and a line below."""

from distillkit.methods.att import AutomaticTrajectories
from distillkit.methods.confident import ConfidentSubset
from distillkit.methods.coresets import CoverageCentric, Herding, KCentre, Moderate
from distillkit.methods.dc import DatasetCondensation, SiameseCondensation
from distillkit.methods.dd import DatasetDistillation
from distillkit.methods.diffusion import Diffusion
from distillkit.methods.dm import DistributionMatching
from distillkit.methods.full import FullSet
from distillkit.methods.imported import Imported
from distillkit.methods.means import Centroids, ClassMeans
from distillkit.methods.mtt import TrajectoryMatching
from distillkit.methods.optimised import OptimisedSubset
from distillkit.methods.random_subset import RandomSubset
from distillkit.methods.selmatch import SelMatch
from distillkit.methods.window import WindowSubset
from distillkit.protocol import Selection

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
    "dd": DatasetDistillation,
    "dm": DistributionMatching,
    "dc": DatasetCondensation,
    "dsa": SiameseCondensation,
    "mtt": TrajectoryMatching,
    "att": AutomaticTrajectories,
    "selmatch": SelMatch,
    "diffusion": Diffusion,
    "imported": Imported,
}
