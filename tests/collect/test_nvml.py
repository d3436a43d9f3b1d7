"""The layouts that nvml.py reads are those of nvidia-ml-py's structs."""

import ctypes

import pynvml

from gpuwatch.collect import nvml
from gpuwatch.collect.calls import memory_values, pci_address, short_pci_address
from gpuwatch.collect.gpm import _HEAD, _METRIC, _ROWS
from gpuwatch.collect.xid import _EventData


def test_struct_sizes():
    pairs = [
        (nvml._ROW_24.size, pynvml.c_nvmlProcessInfo_v3_t), (nvml._UTILIZATION.size, pynvml.c_nvmlProcessUtilizationSample_t),
        (nvml._FIELD.size, pynvml.c_nvmlFieldValue_t), (8 * 5, pynvml.c_nvmlMemory_v2_t), (8 * 3, pynvml.c_nvmlMemory_t),
        (ctypes.sizeof(_EventData), pynvml.c_nvmlEventData_t), (_METRIC.size, pynvml.c_nvmlGpmMetric_t),
    ]  # fmt: skip
    for size, struct in pairs:
        assert size == ctypes.sizeof(struct), struct.__name__
    assert _HEAD.size + _ROWS * _METRIC.size >= ctypes.sizeof(pynvml.c_nvmlGpmMetricsGet_t)
    assert _HEAD.size == pynvml.c_nvmlGpmMetricsGet_t.metrics.offset
    assert pynvml.nvmlMemory_v2 == 0x02000028


def test_rows_have_their_fields_where_nvidia_puts_them():
    one = pynvml.c_nvmlProcessInfo_v3_t(pid=7, usedGpuMemory=1 << 40, gpuInstanceId=2, computeInstanceId=3)
    assert nvml._ROW_24.unpack(bytes(one)) == (7, 1 << 40, 2, 3)
    sample = pynvml.c_nvmlProcessUtilizationSample_t(pid=7, timeStamp=99, smUtil=1, memUtil=2, encUtil=3, decUtil=4)
    assert nvml._UTILIZATION.unpack(bytes(sample)) == (7, 99, 1, 2, 3, 4)
    pci = pynvml.nvmlPciInfo_t(busIdLegacy=b"0000:65:00.0", busId=b"00000000:65:00.0")
    assert pci_address(bytes(pci)) == "0000:65:00.0"
    assert pci_address(bytes(pynvml.nvmlPciInfo_t(busIdLegacy=b"0000:65:00.0"))) == "0000:65:00.0"


def test_field_values_of_every_type():
    for kind, name, value in ((0, "dVal", 1.5), (1, "uiVal", 7), (2, "ulVal", 8), (3, "ullVal", 1 << 40), (4, "sllVal", -5), (5, "siVal", -6)):
        field = pynvml.c_nvmlFieldValue_t(valueType=kind)
        setattr(field.value, name, value)
        *_, found_kind, code, raw = nvml._FIELD.unpack(bytes(field))
        assert (found_kind, code) == (kind, 0)
        assert nvml.field_value(kind, raw) == (nvml.SUCCESS, value)
    assert nvml.field_value(99, 0) == (nvml.UNKNOWN, None)


def test_codes_are_nvmls():
    for name in ("UNINITIALIZED", "NOT_SUPPORTED", "NO_PERMISSION", "NOT_FOUND", "INSUFFICIENT_SIZE", "DRIVER_NOT_LOADED", "TIMEOUT",
                 "LIBRARY_NOT_FOUND", "FUNCTION_NOT_FOUND", "GPU_IS_LOST", "RESET_REQUIRED", "LIB_RM_VERSION_MISMATCH",
                 "ARGUMENT_VERSION_MISMATCH", "UNKNOWN"):  # fmt: skip
        assert getattr(nvml, name) == getattr(pynvml, f"NVML_ERROR_{name}")


def test_reasons():
    assert nvml.reason(3) == "not supported"
    assert nvml.reason(4) == "no permission"
    assert nvml.reason(999) == "error: Unknown Error"
    assert nvml.reason(77) == "error: NVML error 77"


def test_a_ladder_finds_its_rung_once():
    asked = []

    def rung(name, code):
        return lambda handle: (asked.append(name), (code, name))[1]

    read = nvml.ladder(rung("v3", nvml.FUNCTION_NOT_FOUND), rung("v2", nvml.ARGUMENT_VERSION_MISMATCH), rung("v1", nvml.SUCCESS))
    assert read(None) == (0, "v1")
    assert read(None) == (0, "v1")
    assert asked == ["v3", "v2", "v1", "v1"]
    assert nvml.ladder(rung("only", nvml.FUNCTION_NOT_FOUND))(None) == (nvml.FUNCTION_NOT_FOUND, "only")


def test_used_memory_is_without_what_the_driver_reserves_whichever_way_it_counts():
    assert memory_values([100, 10, 60, 30]) == (30, 10, 60, 100)
    assert memory_values([100, 10, 60, 40]) == (30, 10, 60, 100)
    assert memory_values([100, 0, 60, 40]) == (40, 0, 60, 100)


def test_addresses():
    assert short_pci_address("00000000:1B:00.0") == "0000:1b:00.0"
    assert short_pci_address("00010000:1B:00.0") == "00010000:1b:00.0"
    assert short_pci_address("0008:01:00.0") == "0008:01:00.0"
