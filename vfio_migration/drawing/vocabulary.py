"""What drawings say and how they look, whatever draws them: marks and their colours, labels of parts and bounds."""

from dataclasses import dataclass

from vfio_migration.plan import Bounds
from vfio_migration.recorded import Span, SpanKind
from vfio_migration.wording import arc_parts, ms


@dataclass(frozen=True)
class Mark:
    """
    How a kind of span is drawn: its key and what it means; in a terminal; as a picture, on a page.

    `light` and `dark` are two colours each, of the edge with the hatch and of the face; hatches tell marks apart in
    grey too. `unicode` and `ascii` are what fills a cell of a terminal, in `style`.
    """

    key: str
    meaning: str
    unicode: str
    ascii: str
    style: str
    light: tuple[str, str]
    dark: tuple[str, str]
    hatch: str = ""


# Hues for the colour-blind, after Okabe and Ito, each dark enough for a white ground.
MARKS = {
    each.key: each
    for each in (
        Mark("p2p", "to *_P2P (prepare)", "▒", ":", "cyan", ("#2a86bd", "#8cc6e8"), ("#8fd0f5", "#4a8fb8"), "/////"),
        Mark(
            "change",
            "to STOP_COPY, STOP or RUNNING (main)",
            "█",
            "#",
            "blue",
            ("#0b4f86", "#0b4f86"),
            ("#3c8ddb", "#3c8ddb"),
        ),
        Mark("save", "state transferred", "░", ".", "yellow", ("#a86b00", "#f3c766"), ("#f0b429", "#f0b429")),
        Mark(
            "load",
            "loaded state takes effect",
            "▓",
            "%",
            "magenta",
            ("#a8427f", "#d68ab7"),
            ("#dd8abb", "#9d4f7d"),
            "\\\\\\",
        ),
        Mark("handler", "ordinary handlers", "■", "o", "green", ("#00785a", "#00785a"), ("#1fb58f", "#1fb58f")),
        Mark("send", "sent", "▄", "~", "red", ("#b3400a", "#ec7a45"), ("#f08a54", "#b4551f"), "---"),
        Mark(
            "write", "state loaded", "▚", "+", "bright_magenta", ("#5b4bb0", "#a79be0"), ("#b3a8f0", "#6f61bd"), "xxx"
        ),
        Mark("config", "configuration loaded", "▌", "*", "bright_blue", ("#3a2c86", "#3a2c86"), ("#8f82ea", "#8f82ea")),
        Mark(
            "cost",
            "fixed costs of the phases",
            "▬",
            "=",
            "bright_black",
            ("#5d6670", "#b4bbc3"),
            ("#9aa4af", "#5d6670"),
        ),
    )
}
# Of all else: text, what is less important, lines.
LIGHT = {"background": "#ffffff", "text": "#1b1f24", "muted": "#56606b", "rule": "#dde2e7"}
DARK = {"background": "#10151b", "text": "#e8ebee", "muted": "#a3adb8", "rule": "#2a333e"}

# The parts of a switchover, in order; the first is the sum of the others.
PART_LABELS = {
    "switchover_s": "switchover",
    "source_stop_s": "source stops",
    "transfer_s": "states transferred",
    "destination_start_s": "destination starts",
}
BOUND_LABELS = {
    "serial_s": "everything in turn",
    "mechanism_s": "this mechanism",
    "ideal_s": "if depths overlapped too",
}
WAITS = "what the switchover waits for, in order"
NOT_REACHED = "the switchover was not reached, nothing to draw"


@dataclass(frozen=True)
class BoundLine:
    """One of the three bounds: where it lies, and what it says."""

    key: str
    meaning: str
    seconds: float

    @property
    def label(self) -> str:
        """The line's label."""
        return f"bound, {self.meaning}: {ms(self.seconds)}"


def bound_lines(bounds: Bounds) -> tuple[BoundLine, ...]:
    """Give the bounds with their labels, everything in turn first."""
    return tuple(BoundLine(key, meaning, getattr(bounds, key)) for key, meaning in BOUND_LABELS.items())


_MARK_OF_KIND = {
    SpanKind.SAVE: "save",
    SpanKind.HANDLER: "handler",
    SpanKind.SECTION: "send",
    SpanKind.SEND: "send",
    SpanKind.LOADER: "write",
    SpanKind.LOAD: "write",
    SpanKind.CONFIG: "config",
    SpanKind.COST: "cost",
}


def mark(span: Span) -> Mark:
    """Give the mark of a span that is drawn."""
    if span.kind in _MARK_OF_KIND:
        return MARKS[_MARK_OF_KIND[span.kind]]
    current, target = arc_parts(span.detail)
    return MARKS["p2p" if target.endswith("_P2P") else "load" if current == "RESUMING" else "change"]


def what_happens(span: Span) -> str:
    """Say what goes on in a span that is drawn, without whose it is."""
    match span.kind:
        case SpanKind.ARC:
            return span.detail
        case SpanKind.HANDLER:
            return f"handler, {span.detail} pass"
        case SpanKind.SEND:
            return f"state sent over {span.detail or 'the main channel'}"
        case SpanKind.COST:
            return "fixed cost of a phase"
    return mark(span).meaning


def part_label(part: str) -> str:
    """Label a part for a column, those that are in sum the switchover being indented."""
    return PART_LABELS[part] if part == "switchover_s" else f"  {PART_LABELS[part]}"
