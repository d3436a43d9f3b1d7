"""A cluster without hardware: a Source like collect's. Demo, screenshots, tests and benches share it. Never reads a real GPU."""
