"""Print the folder for LD_LIBRARY_PATH (for use by hand: README.md)."""

from tests.fake_nvml import build

print(build().parent)
