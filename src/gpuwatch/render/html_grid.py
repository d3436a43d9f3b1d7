"""stub"""

from __future__ import annotations

from typing import Any

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.view import ViewOptions
from gpuwatch.render.fragments import Fragments
from gpuwatch.render.html_gpu_row import Moment


def grid_main(cluster: ClusterNow, options: ViewOptions, rows: Any, pages: int, moment: Moment, fragments: Fragments) -> str:
    return ""


def grid_cells(cluster: ClusterNow, since: int, fragments: Fragments) -> Any:
    return {}
