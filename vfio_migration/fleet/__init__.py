"""Forecasts for fleets: latencies that vary, many scenarios, several machines. Needs numpy: the extra `fleet`."""

from vfio_migration.fleet.closed_form import BOUNDS, IDEAL, MECHANISM, SERIAL
from vfio_migration.fleet.figures import Figures, Histogram, middle_of
from vfio_migration.fleet.fleet_forecast import Forecast, forecast
from vfio_migration.fleet.helps import Help
from vfio_migration.fleet.one_scenario import Asked, ScenarioForecast, forecast_one, samples_of
from vfio_migration.fleet.sweep import Point, Vary, parse_vary, sweep

__all__ = [
    "BOUNDS",
    "IDEAL",
    "MECHANISM",
    "SERIAL",
    "Asked",
    "Figures",
    "Forecast",
    "Help",
    "Histogram",
    "Point",
    "ScenarioForecast",
    "Vary",
    "forecast",
    "forecast_one",
    "middle_of",
    "parse_vary",
    "samples_of",
    "sweep",
]
