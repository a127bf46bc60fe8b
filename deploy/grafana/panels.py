"""The few kinds of panels that the dashboards are made of, as Grafana's JSON wants them.

Own code, and not Grafana's SDK for Python: five kinds are what there is to say, and a version of the SDK belongs to one
version of Grafana, by an epoch in its number that no range of a dependency can express.
"""

from collections.abc import Mapping, Sequence
from typing import Any

#: As `provisioning/datasources` names it.
SOURCE = {"type": "prometheus", "uid": "prometheus"}
COLUMNS = 24
#: Legend to query. The legend may hold labels: `{{store}}`.
Queries = Mapping[str, str]
#: From which value on which colour; the first has no bound.
Steps = Sequence[tuple[float | None, str]]
Panel = dict[str, Any]

GREEN: Steps = [(None, "green")]


def stat(
    title: str, says: str, unit: str, query: str, steps: Steps, texts: Mapping[float, str] | None = None, **more: Any
) -> Panel:
    """One number, large, on the colour of its threshold; `texts` are shown in the place of values."""
    made = _panel("stat", title, says, unit, {"": query}, instant=True)
    made["fieldConfig"]["defaults"] |= {"thresholds": _thresholds(steps), "color": {"mode": "thresholds"}, **more}
    if texts:
        made["fieldConfig"]["defaults"]["mappings"] = _texts(texts, steps)
    made["options"] = _last() | {"colorMode": "background", "graphMode": "none", "textMode": "value"}
    return made


def graph(
    title: str,
    says: str,
    unit: str,
    queries: Queries,
    *,
    limit: float | None = None,
    stacked: bool = False,
    least: float | None = 0,
    **more: Any,
) -> Panel:
    """Lines over time, from `least` upwards; a red one at `limit`."""
    made = _panel("timeseries", title, says, unit, queries)
    style: dict[str, Any] = {"fillOpacity": 10, "lineWidth": 2, "showPoints": "never", "spanNulls": False}
    steps: Steps = GREEN if limit is None else [*GREEN, (limit, "red")]
    style["thresholdsStyle"] = {"mode": "off" if limit is None else "line"}
    style["stacking"] = {"mode": "normal" if stacked else "none"}
    made["fieldConfig"]["defaults"] |= {
        **({} if least is None else {"min": least}),
        "color": {"mode": "palette-classic"},
        "thresholds": _thresholds(steps),
        "custom": style,
        **more,
    }
    made["options"] = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return made


def bars(title: str, says: str, unit: str, queries: Queries, steps: Steps) -> Panel:
    """One bar for each series, by its newest value."""
    made = _panel("bargauge", title, says, unit, queries, instant=True)
    made["fieldConfig"]["defaults"] |= {"min": 0, "thresholds": _thresholds(steps), "color": {"mode": "thresholds"}}
    made["options"] = _last() | {"orientation": "horizontal", "displayMode": "basic", "showUnfilled": True}
    return made


def states(title: str, says: str, queries: Queries, texts: Mapping[float, str], steps: Steps) -> Panel:
    """A band for each series, coloured and named by its value."""
    made = _panel("state-timeline", title, says, "none", queries)
    made["fieldConfig"]["defaults"] |= {
        "thresholds": _thresholds(steps),
        "color": {"mode": "thresholds"},
        "custom": {"fillOpacity": 80, "lineWidth": 0},
        "mappings": _texts(texts, steps),
        "noValue": "none",
    }
    made["options"] = {"mergeValues": True, "showValue": "auto", "rowHeight": 0.8, "legend": {"showLegend": False}}
    return made


def table(title: str, says: str, query: str, columns: Mapping[str, str]) -> Panel:
    """A row for each series; `columns` are the labels that are shown, with their headings."""
    made = _panel("table", title, says, "none", {"": query}, instant=True)
    made["fieldConfig"]["defaults"] |= {"thresholds": _thresholds(GREEN), "custom": {"align": "left"}}
    made["targets"][0]["format"] = "table"
    order = {label: place for place, label in enumerate(columns)}
    kept = {"id": "filterFieldsByName", "options": {"include": {"names": list(columns)}}}
    named = {"id": "organize", "options": {"indexByName": order, "renameByName": dict(columns), "excludeByName": {}}}
    made["transformations"] = [kept, named]
    made["options"] = {"showHeader": True, "cellHeight": "sm"}
    return made


def variable(name: str, query: str, *, several: bool = False) -> dict[str, Any]:
    """A choice above the dashboard: the values of a label. `several` begins with all of them."""
    chosen: dict[str, Any] = {"text": "All", "value": "$__all"} if several else {}
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": SOURCE,
        "query": query,
        "refresh": 2,  # when the time range changes, too: stores come and go
        "sort": 1,
        "multi": several,
        "includeAll": several,
        "current": chosen,
    }


def row(height: int, *panels: Panel) -> tuple[int, Sequence[Panel]]:
    """Panels of the same width, side by side. On a phone Grafana puts them below one another, in order."""
    return height, panels


def dashboard(
    name: str, title: str, says: str, variables: Sequence[dict[str, Any]], rows: Sequence[tuple[int, Sequence[Panel]]]
) -> dict[str, Any]:
    """A page of rows, from the top."""
    panels: list[Panel] = []
    y = 0
    for height, side_by_side in rows:
        width = COLUMNS // len(side_by_side)
        for place, panel in enumerate(side_by_side):
            grid = {"x": place * width, "y": y, "w": width, "h": height}
            panels.append({"id": len(panels) + 1, **panel, "gridPos": grid})
        y += height
    return {
        "uid": f"tillstream-{name}",
        "title": f"Tillstream: {title}",
        "description": says,
        "tags": ["tillstream"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "timezone": "browser",
        "refresh": "15s",
        "time": {"from": "now-6h", "to": "now"},
        "graphTooltip": 1,
        "links": [
            {
                "type": "dashboards",
                "title": "Tillstream",
                "tags": ["tillstream"],
                "asDropdown": True,  # one word on a phone
                "keepTime": True,
                "includeVars": True,
            }
        ],
        "templating": {"list": list(variables)},
        "panels": panels,
    }


def _panel(kind: str, title: str, says: str, unit: str, queries: Queries, *, instant: bool = False) -> Panel:
    return {
        "type": kind,
        "title": title,
        "description": says,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "options": {},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": SOURCE,
                "expr": " ".join(query.split()),
                "legendFormat": legend,
                "instant": instant,
                "range": not instant,
            }
            for place, (legend, query) in enumerate(queries.items())
        ],
    }


def _last() -> dict[str, Any]:
    return {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}


def _thresholds(steps: Steps) -> dict[str, Any]:
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for value, color in steps]}


def _texts(texts: Mapping[float, str], steps: Steps) -> list[dict[str, Any]]:
    def color_at(value: float) -> str:
        return [color for bound, color in steps if bound is None or value >= bound][-1]

    options = {f"{value:g}": {"text": text, "color": color_at(value)} for value, text in texts.items()}
    return [{"type": "value", "options": options}]
