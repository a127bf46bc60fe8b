"""Parses a worker's /metrics."""

from collections import defaultdict
from typing import Any

from prometheus_client.parser import text_string_to_metric_families


class MetricsPage:
    """The samples of a text in Prometheus' format. Raises ValueError for other texts."""

    def __init__(self, text: str) -> None:
        self._by_name: dict[str, list[Any]] = defaultdict(list)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._by_name[sample.name].append(sample)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def total(self, name: str) -> float:
        """Return the sum over all labels; 0 without samples."""
        return float(sum(sample.value for sample in self._by_name.get(name, ())))

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return the values by `label`."""
        return {sample.labels[label]: float(sample.value) for sample in self._by_name.get(name, ())}

    def counts(self, name: str, label: str) -> dict[str, int]:
        """Return a counter's values by `label`, without zeros."""
        return {value: int(count) for value, count in self.by(name, label).items() if count}
