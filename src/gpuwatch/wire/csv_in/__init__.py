"""Readings that others wrote down: logs, exports and old databases, one file a format, all to ``ImportedRow``. Opens no file.

Whatever is read here comes from strangers: each parser reports the lines that it does not understand and goes on, in bounded memory.
"""
