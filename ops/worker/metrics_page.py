"""What a worker's /metrics say, by name."""

from collections import defaultdict
from typing import Any

from prometheus_client.parser import text_string_to_metric_families


class MetricsPage:
    """The samples of a text in Prometheus' format. Raises ValueError where it is none."""

    def __init__(self, text: str) -> None:
        self._by_name: dict[str, list[Any]] = defaultdict(list)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._by_name[sample.name].append(sample)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def total(self, name: str) -> float:
        """The sum over all labels; 0 where there is no sample."""
        return float(sum(sample.value for sample in self._by_name.get(name, ())))

    def by(self, name: str, label: str) -> dict[str, float]:
        """The values by `label`."""
        return {sample.labels[label]: float(sample.value) for sample in self._by_name.get(name, ())}

    def counts(self, name: str, label: str) -> dict[str, int]:
        """The values of a counter by `label`, those that are not 0."""
        return {value: int(count) for value, count in self.by(name, label).items() if count}
