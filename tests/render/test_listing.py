"""Rows in columns, also with wide characters, None and control characters."""

from gpuwatch.render.listing import listing


def test_columns_line_up():
    text = listing(("name", "address"), [("dgx-a", "10.0.0.1"), ("実験室", None), ("x\x1b[31m", "::1")])
    assert text == "name    address\ndgx-a   10.0.0.1\n実験室\nx[31m   ::1\n"
