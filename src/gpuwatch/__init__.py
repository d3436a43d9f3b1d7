"""gpuwatch: which GPU is free, who is on the others, since when. One file for every GPU host of a lab.

This module holds the version and nothing else; importing it must cost nothing.
"""

__version__ = "0.1.0"
