"""A drill's timeline as a picture: rates of tills and ERP, lag, and alerts. SVG.

Own code, and not a plotting library: three simple charts on one axis of time, in a file that is small enough to read.
"""

from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

from deploy.drills.timeline import Alert, Point, Timeline, ending

WIDTH, LEFT, RIGHT = 960, 70, 40
INK, FAINT, TILLS, ERP, BEHIND = "#24292f", "#d0d7de", "#6e7781", "#0969da", "#bc4c00"
COLORS = {"pending": "#f2cc60", "firing": "#cf222e"}
OUTAGE = "#ffebe9"
FONT = "font-family='system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif'"
BAND = 26
TITLE = "The database is stopped under load and started again: records, documents, how far the ERP is behind, alerts"


class Chart:
    """Lines on a piece of the page: `top` and `height` in pixels, `begin` to `end` in seconds, values 0 to `most`."""

    def __init__(self, begin: float, end: float, top: float, height: float, most: float = 1) -> None:
        self.begin, self.end, self.top, self.height, self.most = begin, end, top, height, most

    def x(self, at: float) -> float:
        """Where a moment is."""
        share = (min(max(at, self.begin), self.end) - self.begin) / (self.end - self.begin)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Where a value is."""
        return round(self.top + self.height * (1 - min(value, self.most) / self.most), 1)

    def line(self, points: Sequence[Point], color: str) -> str:
        """A line through the points."""
        path = " ".join(f"{self.x(at)},{self.y(value)}" for at, value in points if self.begin <= at <= self.end)
        return f"<polyline points='{path}' fill='none' stroke='{color}' stroke-width='2.5'/>"

    def grid(self, title: str, unit: str) -> Iterable[str]:
        """The title, and a few lines with their values."""
        yield text(LEFT, self.top - 12, title, bold=True)
        for value in ticks(self.most):
            y = self.y(value)
            yield f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y}' y2='{y}' stroke='{FAINT}'/>"
            yield text(LEFT - 8, y + 5, f"{value:g}{unit}", anchor="end")


def draw(timeline: Timeline) -> str:
    """The picture, as SVG."""
    begin, end = timeline.at("tills open"), timeline.at("tills closed")
    rates = Chart(begin, end, 78, 150, round_up(max(value for _, value in timeline.documents + timeline.tills)))
    behind = Chart(begin, end, 282, 130, round_up(max(value for _, value in timeline.behind)))
    bands = Chart(begin, end, 466, BAND * len(timeline.alerts))
    bottom = bands.top + bands.height
    away = rates.x(timeline.at("database started")) - rates.x(0)
    parts = [
        f"<rect width='{WIDTH}' height='{bottom + 66:g}' rx='6' fill='#ffffff'/>",
        f"<rect x='{rates.x(0)}' y='34' width='{away:.1f}' height='{bottom - 34:g}' fill='{OUTAGE}'/>",
        text(rates.x(0) + away / 2, 26, "database stopped", anchor="middle", color=COLORS["firing"]),
        *rates.grid("Per second", ""),
        *legend(330, rates.top - 12, [(TILLS, "records from the tills"), (ERP, "documents into the ERP")]),
        rates.line(timeline.tills, TILLS),
        rates.line(timeline.documents, ERP),
        *behind.grid("The ERP is behind by", " s"),
        behind.line(timeline.behind, BEHIND),
        text(LEFT, bands.top - 12, "Alerts", bold=True),
        *legend(330, bands.top - 12, [(COLORS["pending"], "pending"), (COLORS["firing"], "firing")]),
    ]
    for row, alert in enumerate(timeline.alerts):
        parts.extend(band(bands, row, alert))
    for at in moments(begin, end):
        parts.append(text(rates.x(at), bottom + 24, f"{at:+g} s" if at else "0 s", anchor="middle"))
    parts.append(text(LEFT, bottom + 50, said_below(timeline)))
    size = f"viewBox='0 0 {WIDTH} {bottom + 66:g}' role='img'"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' {size} {FONT} font-size='15'>"
    return "\n".join([head, f"<title>{escape(TITLE)}</title>", *parts, "</svg>", ""])


def band(chart: Chart, row: int, alert: Alert) -> Iterable[str]:
    """One alert's life."""
    y = chart.top + row * BAND
    ended = alert.ended if alert.ended is not None else chart.end
    firing = alert.firing if alert.firing is not None else ended
    pending = alert.pending if alert.pending is not None else firing
    for state, since, until in (("pending", pending, firing), ("firing", firing, ended)):
        width = chart.x(until) - chart.x(since)
        if width > 0:
            color = COLORS[state]
            yield f"<rect x='{chart.x(since)}' y='{y + 3}' width='{width:.1f}' height='{BAND - 6}' fill='{color}'/>"
    name = f"{alert.name.removeprefix('Tillstream')} ({alert.severity})"
    if chart.x(ended) < WIDTH - RIGHT - 9 * len(name):
        yield text(chart.x(ended) + 8, y + 18, name)
    else:
        yield text(chart.x(pending) - 8, y + 18, name, anchor="end")


def said_below(timeline: Timeline) -> str:
    """Describe the picture for readers who can't see it."""
    books = timeline.balance
    return (
        f"{books['sent']:,} records sent: {books['delivered']:,} documents, {books['duplicates']:,} sent again, "
        f"{books['dead_letters']:,} dead letters; {ending(books)}."
    )


def legend(x: float, y: float, entries: Iterable[tuple[str, str]]) -> Iterable[str]:
    """Draw the legend."""
    for color, words in entries:
        yield f"<rect x='{x}' y='{y - 9}' width='18' height='8' fill='{color}'/>"
        yield text(x + 26, y, words)
        x += 60 + 8 * len(words)


def text(x: float, y: float, words: str, *, anchor: str = "start", bold: bool = False, color: str = INK) -> str:
    """Words at a place."""
    weight = " font-weight='600'" if bold else ""
    return f"<text x='{x:g}' y='{y:g}' text-anchor='{anchor}' fill='{color}'{weight}>{escape(words)}</text>"


def ticks(most: float) -> list[float]:
    """A few round values from 0 to `most`, which is round."""
    return [most * share / 4 for share in range(5)]


def round_up(value: float) -> float:
    """The next value that four lines divide well."""
    step: int = 10 ** (len(str(int(value))) - 1)
    return next(most for most in (step * m for m in (1, 2, 4, 8, 10, 20)) if most >= value)


def moments(begin: float, end: float) -> Iterable[float]:
    """Round moments for the axis of time."""
    step = next(step for step in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 3600) if (end - begin) / step <= 12)
    at = -(-begin // step) * step
    while at <= end:
        yield at
        at += step
