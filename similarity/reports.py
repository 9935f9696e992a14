"""Reports: how good each build was found to be, kept beside the builds.

    builds/reports/<build id>.json

A report outlives its build: the last KEPT_REPORTS are a history in which a model or a catalogue that got worse is seen.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from catalog.files import replace_file
from similarity.builds import builds_dir, read_manifest
from similarity.evaluation import Evaluation, EvaluationError, evaluate_build

logger = logging.getLogger(__name__)

KEPT_REPORTS = 20
_BUILD_ID = re.compile(r"[0-9A-Za-z-]+")


def report_on(build_id: str) -> dict[str, Any] | None:
    """Judge a build and store its report. None where it cannot be done: the log says why, nothing is raised.

    The build is published and good to answer from, whatever becomes of its report.
    """
    try:
        return store_report(build_id, evaluate_build(read_manifest(build_id)))
    except EvaluationError as error:
        logger.info("Build %s has no report: %s", build_id, error)
    except Exception:
        logger.exception("Build %s could not be judged; it stays published without a report.", build_id)
    return None


def store_report(build_id: str, evaluation: Evaluation) -> dict[str, Any]:
    """Keep what was found of a build, in one step, and forget the oldest reports. The report, as it was stored."""
    report = {
        "build": build_id,
        "created_at": datetime.now(UTC).isoformat(),
        "halves": len(evaluation.folds),
        **evaluation.summary(),
    }
    replace_file(_path(build_id), json.dumps(report, indent=2).encode())
    for path in _newest_first()[KEPT_REPORTS:]:
        path.unlink(missing_ok=True)
    return report


def stored_report(build_id: str) -> dict[str, Any] | None:
    """The report of that build; None where there is none, or none that can be read."""
    if not _BUILD_ID.fullmatch(build_id):
        return None
    try:
        report = json.loads(_path(build_id).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("The report of build %s cannot be read (%s).", build_id, error)
        return None
    return report if isinstance(report, dict) else None


def recent_reports(n: int = KEPT_REPORTS) -> list[dict[str, Any]]:
    """The last n reports that can be read, the youngest build's first."""
    stored = (stored_report(path.stem) for path in _newest_first())
    return [report for report in stored if report is not None][:n]


def _path(build_id: str) -> Path:
    return builds_dir() / "reports" / f"{build_id}.json"


def _newest_first() -> list[Path]:
    """Ids of builds sort by age."""
    return sorted((builds_dir() / "reports").glob("[0-9]*.json"), reverse=True)
