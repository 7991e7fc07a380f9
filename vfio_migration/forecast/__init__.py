"""What a switchover will take, and what would shorten it."""

from vfio_migration.forecast.comparison import Comparison, Difference, compare
from vfio_migration.forecast.prediction import DeviceShare, Precopy, Prediction, Stage, predict

__all__ = [
    "Comparison",
    "DeviceShare",
    "Difference",
    "Precopy",
    "Prediction",
    "Stage",
    "compare",
    "predict",
]
