"""The dashboards: `python -m deploy.grafana.boards` (`make schemas`) writes them as JSON to ./dashboards.

Each of ./pages answers one question. Every query runs in tests/integration/test_outage.py, against a Prometheus that
scrapes a worker.
"""

import json
from pathlib import Path

from deploy.grafana.pages import dead_letters, objective, overview, reconciliation, store, worker

FOLDER = Path(__file__).parent / "dashboards"
PAGES = (overview, store, dead_letters, reconciliation, worker, objective)


def made() -> dict[str, str]:
    """File name to content, of every dashboard."""
    boards = [module.page() for module in PAGES]
    return {
        board["uid"].removeprefix("tillstream-") + ".json": json.dumps(board, indent=1, ensure_ascii=False) + "\n"
        for board in boards
    }


def main() -> None:
    """Writes the files."""
    for name, content in made().items():
        (FOLDER / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
