# The library is installed, the kernel module is not loaded: nvmlInit returns DRIVER_NOT_LOADED.
init = DRIVER_NOT_LOADED
nvml_version = 13.590.48.01
