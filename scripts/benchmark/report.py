"""The report: all that was measured, and how the figures of a race relate to each other."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from benchmark.cold import WholeProcess
from benchmark.limits import Limits, floor, operations
from benchmark.races import Growth, Record
from benchmark.workloads import Task

AGREEMENT = 0.005
"""The largest difference between accuracies of the same work."""

COLD_ACCURACY = 0.92
"""The accuracy that a whole program must reach."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """A race, and the limits that it is compared with.

    Attributes:
      task: what was trained.
      examples: training examples per epoch.
      floor: the least seconds that an epoch takes on this machine.
      products_rate: operations per second of the products alone, without the rest of a step.
      contestants: the measurements of each.
    """

    task: Task
    examples: int
    floor: float
    products_rate: float
    contestants: Mapping[str, Record]

    @property
    def ours(self) -> Record:
        """The measurements of funcnet."""
        return self.of("funcnet")

    def of(self, name: str) -> Record:
        """Return the measurements of a contestant."""
        return self.contestants.get(name, Record(left_out="not in this race"))

    def times(self, name: str) -> float:
        """Return a contestant's steady epoch over funcnet's; NaN where one is missing or void."""
        return math.nan if self.is_void(name) else self.of(name).steady / self.ours.steady

    def floors(self, name: str) -> float:
        """Return a contestant's steady epoch over the floor."""
        return self.of(name).steady / self.floor

    def is_void(self, name: str) -> bool:
        """Return whether a contestant was left out, or did not learn the same as funcnet."""
        record = self.of(name)
        return bool(record.left_out) or abs(record.accuracy - self.ours.accuracy) > AGREEMENT

    def rate(self, limits: Limits) -> float:
        """Return the share of the matrix rate that funcnet's products reach."""
        rate = operations(self.task.sizes, self.examples) / self.ours.steady
        return rate / limits.matrix_rate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """All that was measured so far.

    Attributes:
      about: the date, the machine and the versions.
      limits: the limits of the machine.
      workloads: the races, by name.
      growth: by the name of the size that grows.
      cold: whole programs, by name.
    """

    about: str
    limits: Limits
    workloads: Mapping[str, Workload] = dataclasses.field(default_factory=dict)
    growth: Mapping[str, Growth] = dataclasses.field(default_factory=dict)
    cold: Mapping[str, WholeProcess] = dataclasses.field(default_factory=dict)

    def with_limits(self, limits: Limits) -> "Report":
        """Return the report with the better of its limits and later ones, and with their floors."""
        best = self.limits.best(limits)
        workloads = {
            name: dataclasses.replace(w, floor=floor(w.task, w.examples, best))
            for name, w in self.workloads.items()
        }
        return dataclasses.replace(self, limits=best, workloads=workloads)


def why_void(process: WholeProcess, ours: WholeProcess) -> str:
    """Return why a whole program is not comparable with funcnet's; empty if it is."""
    if process.left_out:
        return "left out"
    if process.least_accuracy < COLD_ACCURACY:
        return f"less than {COLD_ACCURACY:.0%}"
    disagrees = abs(process.least_accuracy - ours.least_accuracy) > AGREEMENT
    return "accuracy" if disagrees else ""


def failures(report: Report) -> Iterator[str]:
    """Yield each part in which funcnet itself failed, with the reason."""
    records: dict[str, Record | WholeProcess] = {}
    for name, workload in report.workloads.items():
        records[name] = workload.ours
    for axis, grown in report.growth.items():
        records |= {f"{axis} {size:,}": record for size, record in grown.records.items()}
    if report.cold:
        records["whole process"] = report.cold["funcnet"]
    for name, record in records.items():
        if record.left_out:
            yield f"{name}: {record.left_out}"


def as_json(report: Report) -> bytes:
    """Return the figures as JSON; a figure that is missing is null."""
    return (json.dumps(_finite(dataclasses.asdict(report)), indent=1) + "\n").encode()


def _finite(value: Any) -> Any:
    """The value, with None for each number in it that is not finite."""
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
