"""Pure output: from the cluster at one time to a page, JSON, text or CSV. Nothing here reads a clock, a file or the network."""

from __future__ import annotations

RENDERERS = {
    "html": "gpuwatch.render.as_html",
    "json": "gpuwatch.render.as_json",
    "ascii": "gpuwatch.render.as_ascii",
    "csv": "gpuwatch.render.as_csv",
    "prometheus": "gpuwatch.render.as_prometheus",
}
"""Formats of a view, as modules that are imported on first use."""
