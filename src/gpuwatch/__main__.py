"""`python -m gpuwatch`, and `python src/gpuwatch/__main__.py`: runs gpuwatch from source. Must never do more."""

import os
import sys

if not __package__:  # started by its path: this folder's modules must not be taken for top-level ones
    own_folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(own_folder)] + [entry for entry in sys.path if entry != own_folder]

from gpuwatch.boot import main

if __name__ == "__main__":
    main()
