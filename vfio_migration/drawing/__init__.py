"""What is shown to people: in a terminal, on a page, as a picture."""

from vfio_migration.drawing.comparison_terminal import print_comparison
from vfio_migration.drawing.measurement_terminal import print_measurement
from vfio_migration.drawing.page import html_page
from vfio_migration.drawing.picture import check_plot, write_plot
from vfio_migration.drawing.prediction_terminal import print_prediction
from vfio_migration.drawing.terminal import plain, print_notes, print_result

__all__ = [
    "check_plot",
    "html_page",
    "plain",
    "print_comparison",
    "print_measurement",
    "print_notes",
    "print_prediction",
    "print_result",
    "write_plot",
]
