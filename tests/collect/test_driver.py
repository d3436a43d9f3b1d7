"""What /proc and /sys say of the driver, in the wording of several driver versions."""

import pytest

from gpuwatch.collect.driver import installed_version, loaded_version, mismatch, nvidia_devices, nvidia_gpus

CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.90.07  Fri May 31 09:35:42 UTC 2024\nGCC version:  gcc version 12.3.0\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  595.71.05  Release Build  (dvs-builder@host)  Fri May 31\nGCC version: 12.3.0\n"
ARM = "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  560.28.03  Release Build\n"


@pytest.mark.parametrize(("text", "version"), [(CLOSED, "550.90.07"), (OPEN, "595.71.05"), (ARM, "560.28.03"), ("garbage", None), ("", None)])
def test_loaded_version(tmp_path, text, version):
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(text)
    assert loaded_version(str(tmp_path)) == version


def test_no_driver(tmp_path):
    assert loaded_version(str(tmp_path)) is None
    assert nvidia_gpus(str(tmp_path)) == {}
    assert nvidia_devices(str(tmp_path)) == []


def test_the_installed_version_is_that_of_the_file_a_new_process_would_load(tmp_path):
    old, new, link = (tmp_path / name for name in ("libnvidia-ml.so.550.90.07", "libnvidia-ml.so.550.107.02", "libnvidia-ml.so.1"))
    old.write_text("")
    link.symlink_to(old)
    assert installed_version(str(old)) == "550.90.07"
    new.write_text("")
    link.unlink()
    link.symlink_to(new)  # the upgrade: our process still has the old file mapped
    assert installed_version(str(old)) == "550.107.02"
    assert installed_version(None) is None
    assert installed_version(str(tmp_path / "elsewhere/libnvidia-ml.so.1")) is None


@pytest.mark.parametrize(
    ("loaded", "library", "fits"),
    [
        ("550.90.07", "550.90.07", True), ("550.90.07", "550.90", True), ("550.90.07", "550.107.02", False), ("550.90", "535.90", False),
        (None, "550.90", True), ("550.90", None, True),
    ],
)  # fmt: skip
def test_mismatch(loaded, library, fits):
    sentence = mismatch(loaded, library)
    assert (sentence is None) == fits
    if sentence:
        assert sentence == f"driver {loaded} loaded, library {library} installed: reboot or reload the nvidia modules"


def device(root, address, vendor="0x10de", kind="0x030200", holder="nvidia", **extra):
    folder = root / "sys/bus/pci/devices" / address
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(vendor + "\n")
    (folder / "class").write_text(kind + "\n")
    if holder:
        (folder / "driver").symlink_to(root / "sys/bus/pci/drivers" / holder)
    for name in extra:
        (folder / name).mkdir()


def test_gpus_on_the_bus(tmp_path):
    device(tmp_path, "0000:01:00.0", kind="0x030000")
    device(tmp_path, "0000:02:00.0")
    device(tmp_path, "0000:02:00.1", kind="0x040300")  # its sound device
    device(tmp_path, "0000:03:00.0", vendor="0x1002")
    device(tmp_path, "0000:04:00.0", holder="vfio-pci")
    device(tmp_path, "0000:05:00.0", holder="")
    device(tmp_path, "0000:06:00.4", physfn=True)
    assert nvidia_devices(str(tmp_path)) == ["0000:01:00.0", "0000:02:00.0", "0000:04:00.0", "0000:05:00.0"]
    assert list(nvidia_gpus(str(tmp_path))) == ["0000:01:00.0", "0000:02:00.0"]


def test_what_the_driver_lists_names_the_gpu_and_hides_those_of_others(tmp_path):
    """In a container /proc/driver/nvidia/gpus shows the container's GPUs only, /sys shows all."""
    device(tmp_path, "0000:01:00.0")
    device(tmp_path, "0000:02:00.0")
    folder = tmp_path / "proc/driver/nvidia/gpus/0000:02:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text("Model: \t\t NVIDIA A100\nIRQ: 16\nGPU UUID: \t GPU-1234\nBus Location: \t 0000:02:00.0\nDevice Minor: \t 3\n")
    (gpu,) = nvidia_gpus(str(tmp_path)).values()
    assert gpu == ("0000:02:00.0", "GPU-1234", "NVIDIA A100", 3)
    (folder / "information").write_text("Model: Unknown\nGPU UUID: GPU-????????-????-????-????-????????????\nDevice Minor: \n")
    assert nvidia_gpus(str(tmp_path))["0000:02:00.0"][1:] == (None, "Unknown", None)
