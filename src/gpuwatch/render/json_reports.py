"""A report as JSON: the fields of ``UsageReport`` and ``FleetReport`` as they are. Pure; None is null, never 0."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Dict

from gpuwatch.render.reports import Reports


def reports_json(reports: Reports) -> bytes:
    """``{"usage": {...}, "fleet": {...} or null, "rates": {...}}``; rows carry their ``coverage``, null where it is not known."""
    usage = dataclasses.asdict(reports.usage)
    for row, told in zip((*reports.usage.rows, reports.usage.total), (*usage["rows"], usage["total"])):
        told["coverage"] = row.coverage
    fleet: Any = None if reports.fleet is None else dataclasses.asdict(reports.fleet)
    document: Dict[str, Any] = {"usage": usage, "fleet": fleet, "rates": reports.rates._asdict()}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
