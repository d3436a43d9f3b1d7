"""What comes before the program in gpuwatch.pyz: find a safe folder, unpack there once, start.

Not part of the package `gpuwatch` and imports nothing of it until the very end: at this point nothing but the
standard library can be trusted to be ours. It never runs when gpuwatch is started from source.
"""
