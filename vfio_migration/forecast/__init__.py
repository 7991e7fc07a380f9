"""What a switchover will take, and what would shorten it."""

from vfio_migration.forecast.prediction import DeviceShare, Precopy, Prediction, Stage, predict

__all__ = [
    "DeviceShare",
    "Precopy",
    "Prediction",
    "Stage",
    "predict",
]
