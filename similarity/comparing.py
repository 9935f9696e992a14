"""Stored builds side by side, with how good each was found to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from similarity.publishing import StoredBuild
from similarity.reports import stored_report

Report = Mapping[str, Any]
NO_DIFFERENCE = 0.0005
"""Figures are shown with three digits; less than half of the last is none."""


@dataclass(frozen=True)
class Figure:
    """A build's precision@k for one label, that of its plain network, and how far it is above the current one's."""

    precision: float | None
    plain: float | None
    change: float | None

    @property
    def verdict(self) -> str:
        """better, worse or same; empty where there is nothing to compare with."""
        if self.change is None:
            return ""
        if abs(self.change) < NO_DIFFERENCE:
            return "same"
        return "better" if self.change > 0 else "worse"

    @property
    def size_of_change(self) -> float:
        return abs(self.change or 0.0)


@dataclass(frozen=True)
class Comparison:
    """`judged`: a build's (products, k), None without report. `figures`: label → a figure for each build."""

    judged: Sequence[tuple[int, int] | None]
    figures: Mapping[str, Sequence[Figure]]


def compare(builds: Sequence[StoredBuild]) -> Comparison:
    """The reports of these builds beside each other, in their order.

    A change is told only where both reports looked at equally many neighbours.
    """
    reports = [stored_report(build.manifest.id) or {} for build in builds]
    current: Report = next((report for build, report in zip(builds, reports, strict=True) if build.current), {})
    labels = dict.fromkeys(label for report in reports for label in _part(report, "labels"))
    return Comparison(
        judged=[_judged(report) for report in reports],
        figures={label: [_figure(label, report, current) for report in reports] for label in labels},
    )


def _figure(label: str, report: Report, current: Report) -> Figure:
    precision, compared_with = _precision(report, label), None
    if report is not current and report.get("k") == current.get("k"):
        compared_with = _precision(current, label)
    return Figure(
        precision=precision,
        plain=_precision(_part(report, "baseline"), label),
        change=None if precision is None or compared_with is None else precision - compared_with,
    )


def _judged(report: Report) -> tuple[int, int] | None:
    products, k = report.get("products"), report.get("k")
    return (products, k) if isinstance(products, int) and isinstance(k, int) else None


def _precision(report: Report, label: str) -> float | None:
    value = _part(_part(report, "labels"), label).get("p_at_k")
    return float(value) if isinstance(value, (int, float)) else None


def _part(report: Report, name: str) -> Report:
    part = report.get(name)
    return part if isinstance(part, dict) else {}
