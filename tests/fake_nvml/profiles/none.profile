# A driver without a GPU: nvmlInit succeeds, there are 0 devices.
driver_version = 590.48.01
nvml_version = 13.590.48.01
cuda_version = 13010
