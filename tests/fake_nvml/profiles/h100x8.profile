# Figures from the recording of an NVIDIA H100 80GB HBM3, driver 590.48.01
# (GPU 0 under load, the others idle), in NVML's units. nvidia-smi rounds memory up to MiB, so the bytes are chosen to print the same.
# Not recorded, and so made up to be plausible: energy_millijoules, core_count, memory_bus_width_bits, event types, NVLink, GPM, violation counters but power and sync boost, identities.
# Eight cards from the one recorded. Minor numbers differ from indices on purpose.
driver_version = 590.48.01
nvml_version = 13.590.48.01
cuda_version = 13010

[gpu *]
name = NVIDIA H100 80GB HBM3
pci_device_id = 0x233010DE
pci_subsystem_id = 0x16C110DE
pci_class = 0x030200
vbios_version = 96.00.A5.00.01
board_part_number = 692-2G520-0200-000
inforom_image_version = G520.0200.00.05
gsp_firmware_version = 590.48.01
brand = 14
architecture = 9
compute_capability_major = 9
compute_capability_minor = 0
core_count = 16896
memory_bus_width_bits = 5120
multi_gpu_board = 0
virtualization_mode = 1
memory_total_bytes = 85520809984
memory_reserved_bytes = 501743616
memory_used_bytes = 0
bar1_total_bytes = 137438953472
bar1_used_bytes = 1048576
utilization_gpu_percent = 0
utilization_memory_percent = 0
utilization_encoder_percent = 0
utilization_decoder_percent = 0
utilization_jpeg_percent = 0
utilization_ofa_percent = 0
encoder_session_count = 0
encoder_average_fps = 0
encoder_average_latency_microseconds = 0
process_utilization = 1
temperature_celsius = 41
temperature_memory_celsius = 48
temperature_margin_celsius = 46
temperature_shutdown_celsius = N/A
temperature_slowdown_celsius = N/A
temperature_memory_max_celsius = N/A
temperature_gpu_max_celsius = N/A
temperature_target_celsius = N/A
tlimit_shutdown_celsius = -8
tlimit_slowdown_celsius = -2
tlimit_memory_max_celsius = 0
tlimit_gpu_max_celsius = 0
power_milliwatts = 69850
power_average_milliwatts = 69850
power_instant_milliwatts = 69620
power_memory_average_milliwatts = 43190
power_module_average_milliwatts = N/A
power_limit_milliwatts = 700000
power_enforced_limit_milliwatts = 700000
power_default_limit_milliwatts = 700000
power_min_limit_milliwatts = 200000
power_max_limit_milliwatts = 700000
clock_graphics_mhz = 345
clock_sm_mhz = 345
clock_memory_mhz = 2619
clock_video_mhz = 765
clock_graphics_max_mhz = 1980
clock_sm_max_mhz = 1980
clock_memory_max_mhz = 2619
clock_video_max_mhz = 1545
performance_state = 0
clocks_event_reasons = 0x1
clocks_event_reasons_supported = 0x1FF
violation_power_nanoseconds = 0
violation_thermal_nanoseconds = 0
violation_sync_boost_nanoseconds = 0
violation_board_limit_nanoseconds = 0
violation_low_utilization_nanoseconds = 0
violation_reliability_nanoseconds = 0
violation_app_clocks_nanoseconds = 0
violation_base_clocks_nanoseconds = 0
slowdown_sw_thermal_nanoseconds = 0
slowdown_hw_thermal_nanoseconds = 0
slowdown_hw_power_brake_nanoseconds = 0
fan_speeds_percent = N/A
pcie_generation = 5
pcie_generation_max = 5
pcie_generation_device_max = 5
pcie_width = 16
pcie_width_max = 16
pcie_tx_kilobytes_per_second = 352
pcie_rx_kilobytes_per_second = 329
pcie_replay_count = 9
pcie_replay_rollover_count = 0
nvlink_states = 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1
nvlink_version = 6
nvlink_speed_megabytes_per_second = 26562
nvlink_tx_kibibytes = 0
nvlink_rx_kibibytes = 0
ecc_mode_current = 1
ecc_mode_pending = 1
ecc_mode_default = 1
ecc_corrected_volatile_sram = 0
ecc_corrected_volatile_dram = 0
ecc_corrected_aggregate_sram = 0
ecc_corrected_aggregate_dram = 0
ecc_uncorrected_volatile_sram = 0
ecc_uncorrected_volatile_dram = 0
ecc_uncorrected_aggregate_sram = 0
ecc_uncorrected_aggregate_dram = 0
ecc_sram_threshold_exceeded = 0
retired_pages_single_bit = N/A
retired_pages_double_bit = N/A
retired_pages_pending = N/A
remapped_rows_correctable = 0
remapped_rows_uncorrectable = 0
remapped_rows_pending = 0
remapped_rows_failure = 0
remapped_rows_histogram = 2560,0,0,0,0
recovery_action = 0
event_types_supported = 0x19F
compute_mode = 0
persistence_mode = 1
display_active = 0
accounting_mode = 0
mig_mode_current = 0
mig_mode_pending = 0
mig_max_count = 0
gpm_supported = 1
gpm_graphics_percent = 0.0
gpm_sm_activity_percent = 0.0
gpm_sm_occupancy_percent = 0.0
gpm_integer_percent = 0.0
gpm_tensor_percent = 0.0
gpm_memory_bandwidth_percent = 0.0
gpm_fp64_percent = 0.0
gpm_fp32_percent = 0.0
gpm_fp16_percent = 0.0
gpm_pcie_tx_mebibytes_per_second = 0.3
gpm_pcie_rx_mebibytes_per_second = 0.3
gpm_nvlink_rx_mebibytes_per_second = 0.0
gpm_nvlink_tx_mebibytes_per_second = 0.0

[gpu 0]
uuid = GPU-6f1c0e30-52a7-4c1b-9d00-8e3b7a50c000
serial = 1653023091200
minor_number = 2
pci_bus_id = 00000000:1B:00.0
board_id = 0x1B00
memory_used_bytes = 20780417024
bar1_used_bytes = 20781727744
utilization_gpu_percent = 100
utilization_memory_percent = 11
utilization_encoder_percent = 0
utilization_decoder_percent = 0
utilization_jpeg_percent = 0
utilization_ofa_percent = 0
temperature_celsius = 59
temperature_memory_celsius = 55
temperature_margin_celsius = 26
power_milliwatts = 629450
power_average_milliwatts = 629450
power_instant_milliwatts = 588390
power_memory_average_milliwatts = 85830
energy_millijoules = 123456789012
clock_graphics_mhz = 1980
clock_sm_mhz = 1980
clock_video_mhz = 1545
clocks_event_reasons = 0x0
pcie_tx_kilobytes_per_second = 3092
pcie_rx_kilobytes_per_second = 6346
gpm_graphics_percent = 99.9
gpm_sm_activity_percent = 97.5
gpm_sm_occupancy_percent = 49.8
gpm_integer_percent = 4.2
gpm_tensor_percent = 61.0
gpm_memory_bandwidth_percent = 10.4
gpm_fp64_percent = 0.0
gpm_fp32_percent = 21.3
gpm_fp16_percent = 0.0
gpm_pcie_tx_mebibytes_per_second = 3.0
gpm_pcie_rx_mebibytes_per_second = 6.2
gpm_nvlink_rx_mebibytes_per_second = 0.0
gpm_nvlink_tx_mebibytes_per_second = 0.0
process = pid=11327 type=C used=2690646016 name=/opt/tools/memhog
process = pid=11328 type=C used=1616904192 name=/opt/tools/memhog
process = pid=11345 type=C used=16452157440 sm=99 mem=10 enc=0 dec=0 name=./gpu_burn

[gpu 1]
uuid = GPU-701d0f31-52a7-4c1b-9d01-8e3b7a50c001
serial = 1653023091201
minor_number = 3
pci_bus_id = 00000000:43:00.0
board_id = 0x4300
energy_millijoules = 124567900123

[gpu 2]
uuid = GPU-711e1032-52a7-4c1b-9d02-8e3b7a50c002
serial = 1653023091202
minor_number = 0
pci_bus_id = 00000000:52:00.0
board_id = 0x5200
energy_millijoules = 125679011234

[gpu 3]
uuid = GPU-721f1133-52a7-4c1b-9d03-8e3b7a50c003
serial = 1653023091203
minor_number = 1
pci_bus_id = 00000000:61:00.0
board_id = 0x6100
energy_millijoules = 126790122345

[gpu 4]
uuid = GPU-73201234-52a7-4c1b-9d04-8e3b7a50c004
serial = 1653023091204
minor_number = 6
pci_bus_id = 00000000:9D:00.0
board_id = 0x9D00
energy_millijoules = 127901233456

[gpu 5]
uuid = GPU-74211335-52a7-4c1b-9d05-8e3b7a50c005
serial = 1653023091205
minor_number = 7
pci_bus_id = 00000000:C3:00.0
board_id = 0xC300
energy_millijoules = 129012344567

[gpu 6]
uuid = GPU-75221436-52a7-4c1b-9d06-8e3b7a50c006
serial = 1653023091206
minor_number = 4
pci_bus_id = 00000000:D1:00.0
board_id = 0xD100
energy_millijoules = 130123455678

[gpu 7]
uuid = GPU-76231537-52a7-4c1b-9d07-8e3b7a50c007
serial = 1653023091207
minor_number = 5
pci_bus_id = 00000000:DF:00.0
board_id = 0xDF00
energy_millijoules = 131234566789
