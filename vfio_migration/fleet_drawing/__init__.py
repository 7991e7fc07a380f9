"""What is shown of forecasts and sweeps: in a terminal, on a page, as a picture. Needs the extra `fleet`."""

from vfio_migration.fleet_drawing.page import forecast_page
from vfio_migration.fleet_drawing.sweep_picture import write_sweep
from vfio_migration.fleet_drawing.terminal import print_forecast

__all__ = ["forecast_page", "print_forecast", "write_sweep"]
