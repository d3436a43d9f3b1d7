"""A series as JSON: what ``/api/v1/series`` answers and the charts' script reads. Pure; None is null, never 0."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable

from gpuwatch.model.series import Series

SERIES_FIELDS = (
    ("metric", "name of the metric"),
    ("unit", "unit of minimum, mean and maximum"),
    ("host", "name of the target; empty = all GPUs, or a user's"),
    ("gpu", "UUID; empty = the host or all GPUs"),
    ("user", "user, where the series is one user's"),
    ("start_at", "begin of the span that was asked for"),
    ("end_at", "its end"),
    ("step_seconds", "length of a step"),
    ("tier_seconds", "length of the intervals that the steps are made of"),
    ("kept_since_at", "before this time there are no readings; null = nothing is kept yet"),
    ("counted_until_at", "readings that came later may not be counted yet; null = all are"),
    ("times", "begin of each step; the following lists are as long"),
    ("minimum", "lowest reading of the step; null = nothing was measured"),
    ("mean", "mean of the readings of the step"),
    ("maximum", "highest reading of the step"),
    ("count", "number of readings in the step"),
    ("coverage", "share of the step that was measured, 0 to 1"),
)
"""(field, what it is), in the order of the answer."""


def series_doc(series: Series) -> Dict[str, Any]:
    """The fields of SERIES_FIELDS, ready for a JSON encoder."""
    return {name: getattr(series, name) for name, _ in SERIES_FIELDS}


def series_json(series: Series) -> bytes:
    """One series."""
    return json.dumps(series_doc(series), separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def several_json(found: Iterable[Series]) -> bytes:
    """``{"series": [...]}``: all charts of a page."""
    return json.dumps({"series": [series_doc(series) for series in found]}, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
