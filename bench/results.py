"""Results: medians, as a table and as JSON."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.table import Table

from bench.generate import PARTITIONS, PERCENT_BAD, PERCENT_RESENT
from bench.race import Run

LATEST = Path(__file__).with_name("results") / "latest.json"


def table(runs: Mapping[str, Sequence[Run]]) -> Table:
    """One row per contender."""
    rates = {name: median(run.events_per_s for run in them) for name, them in runs.items()}
    ours = rates.get("tillstream")
    rounds = max(map(len, runs.values()))
    shown = Table(
        title=f"The POS job, medians of {rounds} rounds, {os.cpu_count()} cores shared with both servers",
        caption="µs/event: CPU time. Fewer events: a smaller job of the same make.",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for heading in ("contender", "events", "events/s", "ratio", "CPU s", "µs/event"):
        shown.add_column(heading, justify="left" if heading == "contender" else "right")
    for heading in ("RSS MB", "exact"):
        shown.add_column(heading, justify="right")
    for name, them in runs.items():
        cpu = median(run.cpu_s for run in them)
        shown.add_row(
            name,
            f"{them[0].events:,}",
            f"{rates[name]:,.0f}",
            f"{rates[name] / ours:.2f}" if ours else "-",
            f"{cpu:.1f}",
            f"{median(run.cpu_s / run.events * 1e6 for run in them):.0f}",
            f"{median(run.rss_mb for run in them):.0f}",
            "yes" if all(run.exact for run in them) else "NO",
        )
    return shown


def as_json(runs: Mapping[str, Sequence[Run]], events: int) -> dict[str, Any]:
    """Everything, medians and single runs."""
    return {
        "machine": machine(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "job": {
            "events": events,
            "partitions": PARTITIONS,
            "percent_resent": PERCENT_RESENT,
            "percent_bad": PERCENT_BAD,
        },
        "rivals": {
            name: {
                "events": them[0].events,
                "events_per_s": round(median(run.events_per_s for run in them)),
                "cpu_s": round(median(run.cpu_s for run in them), 2),
                "rss_mb": round(median(run.rss_mb for run in them)),
                "exact": all(run.exact for run in them),
                "runs": [asdict(run) for run in them],
            }
            for name, them in runs.items()
        },
    }


def machine() -> dict[str, Any]:
    """Describe the machine."""
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "cpu": _cpu_model(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def write(results: Mapping[str, Any], path: Path = LATEST) -> None:
    """Keeps them."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=2, default=str) + "\n")
