"""Do we keep what we promised: 99 % of the events of 30 days within 60 s?"""

from typing import Any

from deploy.grafana.pages.shared import ALLOWED, DAY, JOB, OVER, alerts, budget_left, latency
from deploy.grafana.panels import Steps, dashboard, graph, row, stat


def page() -> dict[str, Any]:
    """The dashboard."""
    windows = {window: f'{OVER}:ratio_rate{window}{{job="$job"}}' for window in ("5m", "30m", "1h", "6h", "3d", "30d")}
    burns = {window: f"{query} / {ALLOWED}" for window, query in windows.items()}
    left = f"1 - {burns['30d']}"
    # 0.001: a rate of 0 would last forever, which no panel can show; so nothing lasts longer than 30 days.
    lasts = f"clamp(30 * {DAY} * ({left}) / clamp_min({burns['6h']}, 0.001), 0, 30 * {DAY})"
    long_steps: Steps = [(None, "red"), (5 * DAY, "orange"), (20 * DAY, "green")]
    fast: Steps = [(None, "green"), (6, "orange"), (14.4, "red")]
    return dashboard(
        "objective",
        "objective",
        "Whether 99 % of the events of 30 days were in the ERP within 60 s, and for how long they will be.",
        [JOB],
        [
            row(
                4,
                budget_left(),
                stat(
                    "Kept, over 30 days",
                    "Share of the events that were committed within 60 s.",
                    "percentunit",
                    f"1 - {windows['30d']}",
                    [(None, "red"), (1 - ALLOWED, "green")],
                    decimals=3,
                ),
                stat(
                    "Burn rate, 1 h",
                    "1 uses the budget up in 30 days. 14.4, also over 5 minutes, is a page.",
                    "none",
                    burns["1h"],
                    fast,
                    decimals=1,
                ),
                stat(
                    "The budget lasts",
                    "If the next days are as the last six hours; 30 days at most.",
                    "s",
                    lasts,
                    long_steps,
                    decimals=0,
                ),
            ),
            row(
                9,
                graph(
                    "Burn rate, fast",
                    "Late events against allowed ones. Both above 14.4 (1 h, 5 m): a page.",
                    "none",
                    {"1 h": burns["1h"], "5 min": burns["5m"]},
                    limit=14.4,
                ),
                graph(
                    "Burn rate, slow",
                    "Both above 6 (6 h, 30 m): a page. Above 1 in 3 days and 6 h: a ticket.",
                    "none",
                    {"6 h": burns["6h"], "30 min": burns["30m"], "3 d": burns["3d"]},
                    limit=6,
                ),
            ),
            row(
                9,
                graph(
                    "Error budget left",
                    "Of the events of 30 days that may take more than 60 s.",
                    "percentunit",
                    {"left": left},
                    limit=0,
                    least=None,
                    max=1,
                ),
                graph(
                    "Late events",
                    "Share of the events that took more than 60 s; 1 % may.",
                    "percentunit",
                    {"30 min": windows["30m"], "6 h": windows["6h"]},
                    limit=ALLOWED,
                ),
            ),
            row(9, latency()),
            row(6, alerts(',severity="page"')),
        ],
    )
