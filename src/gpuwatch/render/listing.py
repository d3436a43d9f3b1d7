"""Plain lists of rows for the command line, by tabulate (with wcwidth, so that wide characters keep their columns). Pure.

The tables of the cluster have widths of their own and are drawn in ``text_*``: tabulate cannot bound a line's width.
"""

from __future__ import annotations

from typing import Any, Sequence

from gpuwatch.render.words import clean


def listing(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows in columns under their heads; None is an empty cell. Control characters of strangers' names are gone."""
    from tabulate import tabulate

    cells = [["" if value is None else clean(value) if isinstance(value, str) else value for value in row] for row in rows]
    return str(tabulate(cells, headers=list(head), tablefmt="plain", disable_numparse=True)) + "\n"
