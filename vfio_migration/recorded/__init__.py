"""What was recorded of a run: its timeline, what it waited for, and formats of traces."""

from vfio_migration.recorded.chrome_trace import chrome_trace
from vfio_migration.recorded.critical_path import MOST, Link, condensed, critical_path
from vfio_migration.recorded.parts import LOADING, PartLane, holds_cost, part_lane, parts
from vfio_migration.recorded.qemu_log import FORMATS, format_event, format_log, format_timestamp, log_files
from vfio_migration.recorded.timeline import Span, SpanKind, Timeline, build_timeline

__all__ = [
    "FORMATS",
    "LOADING",
    "MOST",
    "Link",
    "PartLane",
    "Span",
    "SpanKind",
    "Timeline",
    "build_timeline",
    "chrome_trace",
    "condensed",
    "critical_path",
    "format_event",
    "format_log",
    "format_timestamp",
    "holds_cost",
    "log_files",
    "part_lane",
    "parts",
]
