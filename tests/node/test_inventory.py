"""What a node remembers of its GPUs, on disk and on the sampler's line."""

import json
import os

import pytest

from gpuwatch.config.settings import SamplerOptions
from gpuwatch.model.errors import WireError
from gpuwatch.model.snapshot import GpuReading
from gpuwatch.node.inventory import IDENTITY, MOST_GPUS, Inventory, boot_id, gpu_of, identity_of, read_options, write_options

H100 = GpuReading(
    uuid="GPU-a", index=1, name="NVIDIA H100", serial="165", minor_number=1, pci_bus_id="0000:65:00.0", unified_memory=False,
    utilization_percent=50.0, compute_mode="default", live_read_at=7.0,
)  # fmt: skip
KNOWN = GpuReading(uuid="GPU-a", index=1, name="NVIDIA H100", serial="165", minor_number=1, pci_bus_id="0000:65:00.0")


def test_only_identity_is_kept():
    assert gpu_of(identity_of(H100)) == KNOWN
    assert {"uuid", "index", "name", "pci_bus_id", "serial"} <= set(IDENTITY)
    assert "utilization_percent" not in IDENTITY


def test_it_outlives_the_process_but_not_the_boot(tmp_path):
    path = tmp_path / "inventory.json"
    Inventory(path, "boot-1").remember([H100])
    assert Inventory(path, "boot-1").gpus == (KNOWN,)
    assert Inventory(path, "boot-2").gpus == ()
    assert Inventory(path, "").gpus == ()
    assert os.listdir(tmp_path) == ["inventory.json"]


def test_a_gpu_that_is_lost_stays_and_is_known_since_when():
    inventory = Inventory(None, "boot")
    inventory.remember([H100, GpuReading(uuid="GPU-b", index=0)])
    inventory.remember([GpuReading(uuid="GPU-a", error="GPU is lost", error_since_at=99.0)])
    assert [(gpu.uuid, gpu.name, gpu.error_since_at) for gpu in inventory.gpus] == [("GPU-b", None, None), ("GPU-a", "NVIDIA H100", 99.0)]
    inventory.remember([H100])
    assert inventory.gpus[1].error_since_at is None


def test_a_gpu_never_seen_well_or_without_uuid_is_not_remembered():
    inventory = Inventory(None, "boot")
    inventory.remember([GpuReading(uuid="GPU-x", error="GPU is lost"), GpuReading(uuid="")])
    assert inventory.gpus == ()


def test_it_does_not_grow_without_bound():
    inventory = Inventory(None, "boot")
    inventory.remember(GpuReading(uuid=f"GPU-{number}", index=number) for number in range(500))
    assert len(inventory.gpus) == MOST_GPUS


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "[]", "7", "null", "[" * 100000, '{"boot_id": "b"}', '{"boot_id": "b", "gpus": 5}', '{"boot_id": "b", "gpus": [{"uuid": 5}]}',
     '{"boot_id": "b", "gpus": [{}]}', '{"boot_id": "b", "gpus": [{"uuid": "G", "index": "x"}]}', '{"boot_id": "b", "gpus": {"a": 1}}', "\udcff"],
)  # fmt: skip
def test_a_broken_file_is_a_warning_and_is_written_anew(tmp_path, text, caplog):
    path = tmp_path / "inventory.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    inventory = Inventory(path, "b")
    assert inventory.gpus == ()
    assert str(path) in caplog.text
    inventory.remember([H100])
    assert json.loads(path.read_text())["gpus"][0]["uuid"] == "GPU-a"


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    inventory = Inventory(tmp_path / "missing" / "inventory.json", "b")
    inventory.remember([H100])
    assert inventory.gpus == (KNOWN,)
    assert "cannot be written (No such file or directory)" in caplog.text


def test_it_is_written_only_when_something_changed(tmp_path):
    path = tmp_path / "inventory.json"
    inventory = Inventory(path, "b")
    inventory.remember([H100])
    path.unlink()
    inventory.remember([H100])
    assert not path.exists()


def test_the_boot_id_is_the_kernel_s(tmp_path):
    assert len(boot_id()) == 36
    assert boot_id(str(tmp_path)) == ""


OPTIONS = SamplerOptions("näme", 4.0, 10.0, 60.0, 600.0, "a.b:make", "arg", "/host", 10.0, (KNOWN,))


def test_options_survive_the_line():
    line = write_options(OPTIONS)
    assert line.count(b"\n") == 1
    assert read_options(line) == OPTIONS


def test_options_of_a_newer_node_are_read_too():
    doc = {**json.loads(write_options(OPTIONS)), "unheard_of": 1}
    assert read_options(json.dumps(doc).encode()) == OPTIONS


def test_options_with_many_gpus_fit_into_a_pipe():
    known = tuple(GpuReading(**{**identity_of(H100), "uuid": f"GPU-{'f' * 36}-{number}"}) for number in range(500))
    assert len(write_options(SamplerOptions("n", 4, 1, 1, 1, "a:b", known_gpus=known))) < 65536


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b"\xff", b'{"name":"x"}', b'{"known_gpus":[{}]}', b'{"known_gpus":{}}', b"[" * 100000])
def test_broken_options_are_refused(line):
    with pytest.raises(WireError):
        read_options(line)
