"""A sweep as a picture: the switchover over the values of the last key, a line for each combination of the others."""

import math
from collections.abc import Sequence

from vfio_migration.fleet import Point


def write_sweep(points: Sequence[Point], file: str) -> None:
    """
    Write the picture, its kind as the file's name ends.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: it cannot be written.
        ValueError: there is no such kind of picture.

    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - heavy, and an extra
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above

    *others, last = points[0].values
    lines: dict[str, list[Point]] = {}
    for each in points:
        lines.setdefault(", ".join(f"{key} {each.values[key]}" for key in others), []).append(each)
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for label, line in lines.items():
        places = [_number(each.values[last], place) for place, each in enumerate(line)]
        for what, style in (("mechanism_s", "-"), ("serial_s", ":")):
            heights = [getattr(each, what) * 1e3 for each in line]
            finite = [math.nan if math.isinf(each) else each for each in heights]
            words = "as configured" if what == "mechanism_s" else "serial"
            axes.plot(places, finite, style, marker="o", label=f"{label} {words}".strip())
    axes.set_xlabel(last)
    axes.set_ylabel("switchover, ms")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(file)


def _number(text: str, place: int) -> float:
    try:
        return float(text)
    except ValueError:
        return place
