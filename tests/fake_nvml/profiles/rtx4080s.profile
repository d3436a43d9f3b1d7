# Figures from the recording of an NVIDIA GeForce RTX 4080 SUPER, driver 595.71.05
# (under load), in NVML's units. nvidia-smi rounds memory up to MiB, so the bytes are chosen to print the same.
# Not recorded, and so made up to be plausible: uuid, energy_millijoules, core_count, memory_bus_width_bits, event types, number of fans.
driver_version = 595.71.05
nvml_version = 13.595.71.05
cuda_version = 13020

[gpu 0]
name = NVIDIA GeForce RTX 4080 SUPER
uuid = GPU-4080c3d5-17ab-4e02-a6f1-90b2d4875e13
serial = N/A
minor_number = 0
pci_bus_id = 00000000:01:00.0
pci_device_id = 0x270210DE
pci_subsystem_id = 0x51101462
pci_class = 0x030000
vbios_version = 95.03.44.00.B2
board_part_number = N/A
inforom_image_version = G002.0000.00.03
gsp_firmware_version = 595.71.05
brand = 5
architecture = 8
compute_capability_major = 8
compute_capability_minor = 9
core_count = 10240
memory_bus_width_bits = 256
board_id = 0x100
multi_gpu_board = 0
virtualization_mode = 0
memory_total_bytes = 17171480576
memory_reserved_bytes = 454361088
memory_used_bytes = 1544880128
bar1_total_bytes = 17179869184
bar1_used_bytes = 36700160
utilization_gpu_percent = 7
utilization_memory_percent = 2
utilization_encoder_percent = 72
utilization_decoder_percent = 0
utilization_jpeg_percent = 0
utilization_ofa_percent = 0
encoder_session_count = 2
encoder_average_fps = 184
encoder_average_latency_microseconds = 62844
process_utilization = 1
temperature_celsius = 45
temperature_memory_celsius = N/A
temperature_margin_celsius = N/A
temperature_shutdown_celsius = 101
temperature_slowdown_celsius = 96
temperature_memory_max_celsius = N/A
temperature_gpu_max_celsius = 90
temperature_target_celsius = 84
tlimit_shutdown_celsius = N/A
tlimit_slowdown_celsius = N/A
tlimit_memory_max_celsius = N/A
tlimit_gpu_max_celsius = N/A
power_milliwatts = 84030
power_average_milliwatts = 84030
power_instant_milliwatts = 86410
power_memory_average_milliwatts = N/A
power_module_average_milliwatts = N/A
power_limit_milliwatts = 320000
power_enforced_limit_milliwatts = 320000
power_default_limit_milliwatts = 320000
power_min_limit_milliwatts = 150000
power_max_limit_milliwatts = 400000
energy_millijoules = 4080123456
clock_graphics_mhz = 2805
clock_sm_mhz = 2805
clock_memory_mhz = 11251
clock_video_mhz = 2145
clock_graphics_max_mhz = 3165
clock_sm_max_mhz = 3165
clock_memory_max_mhz = 11501
clock_video_max_mhz = 2415
performance_state = 2
clocks_event_reasons = 0x0
clocks_event_reasons_supported = 0x1FF
violation_power_nanoseconds = 0
violation_sync_boost_nanoseconds = 0
slowdown_sw_thermal_nanoseconds = 0
slowdown_hw_thermal_nanoseconds = 0
slowdown_hw_power_brake_nanoseconds = 0
fan_speeds_percent = 0,0
pcie_generation = 4
pcie_generation_max = 4
pcie_generation_device_max = 4
pcie_width = 16
pcie_width_max = 16
pcie_tx_kilobytes_per_second = 174169
pcie_rx_kilobytes_per_second = 1436230
pcie_replay_count = 0
pcie_replay_rollover_count = 0
nvlink_states = N/A
ecc_mode_current = N/A
ecc_mode_pending = N/A
retired_pages_single_bit = N/A
retired_pages_double_bit = N/A
retired_pages_pending = N/A
remapped_rows_correctable = N/A
remapped_rows_uncorrectable = N/A
remapped_rows_pending = N/A
remapped_rows_failure = N/A
remapped_rows_histogram = N/A
recovery_action = 0
event_types_supported = 0x9C
compute_mode = 0
persistence_mode = 0
display_active = 1
accounting_mode = 0
mig_mode_current = N/A
mig_mode_pending = N/A
gpm_supported = N/A
process = pid=2165 type=C+G used=26214400 name=/usr/bin/kwin_wayland
process = pid=2496 type=G used=209715200 name=/usr/bin/plasma-keyboard
process = pid=2620 type=G used=4194304 name=/usr/bin/Xwayland
process = pid=2954 type=G used=125829120 name=/usr/bin/plasmashell
process = pid=3527 type=G used=3145728 name=/usr/bin/xwaylandvideobridge
process = pid=5021 type=C used=377487360 sm=0 mem=0 enc=15 dec=0 name=ffmpeg
process = pid=5022 type=C used=527433728 sm=5 mem=1 enc=54 dec=0 name=ffmpeg
