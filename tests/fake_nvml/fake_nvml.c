/* libnvidia-ml.so.1 of the tests: the functions of NVML that a monitor calls, answered from world.c.
   Signatures, struct layouts and version words as in nvml.h of driver 590 (the same as nvidia-ml-py 13.615.71 has).
   What a card does not support returns NVML_ERROR_NOT_SUPPORTED because its profile has no such field. */
#define _GNU_SOURCE
#include "world.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#define NONE UINT_MAX
#define TICK_MICROSECONDS 166667 /* the driver takes about six utilization samples a second */

typedef unsigned nvmlReturn_t;

/* Handles point into this table and so stay good as long as the process: slot 0 the GPU, 1 to 8 its MIG slices. */
static char handles[MAX_GPUS][1 + MAX_SLICES];
typedef char *Device;

static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;
static volatile int init_count;
static volatile uint64_t init_epoch;

static uint64_t microseconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void sleep_milliseconds(int64_t milliseconds)
{
    struct timespec pause = {milliseconds / 1000, (milliseconds % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

/* Stand still as long as the fault is on. A deaf one hears no signal but SIGKILL, as a thread in state D nearly does. */
static void hang(enum fault_kind kind, const char *function, int gpu)
{
    sigset_t all, before;
    sigfillset(&all);
    if (kind == FAULT_HANG_DEAF)
        pthread_sigmask(SIG_SETMASK, &all, &before);
    while (world_fault(world_get(), kind, function, gpu))
        sleep_milliseconds(5);
    if (kind == FAULT_HANG_DEAF)
        pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Faults that hit any function. Returns SUCCESS when the call may go on. */
static nvmlReturn_t apply_faults(const char *function, int gpu, int is_init)
{
    const struct fault *fault;
    hang(FAULT_HANG, function, gpu);
    hang(FAULT_HANG_DEAF, function, gpu);
    struct world *world = world_get();
    if (world_fault(world, FAULT_SEGFAULT, function, gpu)) {
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    }
    if ((fault = world_fault(world, FAULT_SLOW, function, gpu)))
        sleep_milliseconds(fault->value);
    world = world_get();
    if (world_fault(world, FAULT_DRIVER_GONE, function, gpu))
        return is_init ? NVML_ERROR_DRIVER_NOT_LOADED : NVML_ERROR_UNINITIALIZED;
    if (world_fault(world, FAULT_MISMATCH, function, gpu) && (is_init || init_count))
        return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
    if (is_init && world_fault(world, FAULT_MISMATCH_INIT, function, gpu))
        return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
    if ((fault = world_fault(world, FAULT_ERROR, function, gpu)))
        return (nvmlReturn_t)fault->value;
    return NVML_SUCCESS;
}

static inline nvmlReturn_t begin(struct world **world, const char *function, int gpu)
{
    *world = world_get();
    if (__builtin_expect((*world)->fault_count != 0, 0)) {
        nvmlReturn_t code = apply_faults(function, gpu, 0);
        if (code)
            return code;
        *world = world_get();
    }
    return init_count && init_epoch == (*world)->epoch ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

static inline nvmlReturn_t begin_device(struct world **world, struct entity **entity, int *gpu, int *slice,
                                        const char *function, Device handle)
{
    size_t offset = (size_t)(handle - &handles[0][0]);
    int good = offset < sizeof handles;
    *gpu = good ? (int)(offset / (1 + MAX_SLICES)) : -1;
    *slice = good ? (int)(offset % (1 + MAX_SLICES)) - 1 : -1;
    nvmlReturn_t code = begin(world, function, *gpu);
    if (code)
        return code;
    if (*gpu < 0 || *gpu >= (*world)->gpu_count || *slice >= (*world)->gpus[*gpu]->slice_count)
        return NVML_ERROR_INVALID_ARGUMENT;
    if ((*world)->fault_count &&
        (world_fault(*world, FAULT_GPU_LOST, function, *gpu) || world_fault(*world, FAULT_GPU_GONE, function, *gpu) ||
         world_fault(*world, FAULT_GPU_DROPPED, function, *gpu)))
        return NVML_ERROR_GPU_IS_LOST;
    *entity = *slice < 0 ? &(*world)->gpus[*gpu]->self : (*world)->gpus[*gpu]->slices[*slice];
    return NVML_SUCCESS;
}

#define COUNT()                                                                     \
    do {                                                                            \
        static struct counter *counter_;                                            \
        if (!counter_)                                                              \
            counter_ = world_counter(__func__);                                     \
        __atomic_fetch_add(&counter_->count, 1, __ATOMIC_RELAXED);                  \
    } while (0)

/* Each function starts with one of these two. DEVICE declares world, entity, gpu, slice. */
#define ENTER()                                                                     \
    struct world *world;                                                            \
    do {                                                                            \
        COUNT();                                                                    \
        nvmlReturn_t code_ = begin(&world, __func__, -1);                           \
        if (code_)                                                                  \
            return code_;                                                           \
        (void)world;                                                                \
    } while (0)

#define DEVICE(handle)                                                              \
    struct world *world;                                                            \
    struct entity *entity;                                                          \
    int gpu, slice;                                                                 \
    do {                                                                            \
        COUNT();                                                                    \
        nvmlReturn_t code_ = begin_device(&world, &entity, &gpu, &slice, __func__, handle); \
        if (code_)                                                                  \
            return code_;                                                           \
    } while (0)

#define NEED(pointer)                                                               \
    do {                                                                            \
        if (!(pointer))                                                             \
            return NVML_ERROR_INVALID_ARGUMENT;                                     \
    } while (0)

/* Declare `name` as the field's value, or return its error. */
#define TAKE(name, field)                                                           \
    if (entity->values[F_##field].code)                                             \
        return (nvmlReturn_t)entity->values[F_##field].code;                        \
    int64_t name = entity->values[F_##field].number

static nvmlReturn_t copy_text(const char *text, char *out, unsigned length)
{
    NEED(out);
    if (strlen(text) + 1 > length)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(out, text);
    return NVML_SUCCESS;
}

static nvmlReturn_t copy_value(const struct value *value, char *out, unsigned length)
{
    return value->code ? (nvmlReturn_t)value->code : copy_text(value->text, out, length);
}

/* The index-th number of a comma list, or -1. */
static int64_t list_at(const char *list, unsigned index)
{
    for (; index > 0 && list; index--)
        list = (list = strchr(list, ',')) ? list + 1 : NULL;
    return list && *list ? strtoll(list, NULL, 10) : -1;
}

static unsigned list_length(const char *list)
{
    unsigned length = *list != 0;
    while ((list = strchr(list, ',')))
        list++, length++;
    return length;
}

/* ---- the library and the system ---- */

static nvmlReturn_t start(const char *function)
{
    struct world *world = world_get();
    nvmlReturn_t code = world->fault_count ? apply_faults(function, -1, 1) : NVML_SUCCESS;
    if (code)
        return code;
    world = world_get();
    if (world->init_code)
        return (nvmlReturn_t)world->init_code;
    pthread_mutex_lock(&init_lock);
    init_count = init_epoch == world->epoch ? init_count + 1 : 1;
    init_epoch = world->epoch;
    pthread_mutex_unlock(&init_lock);
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlInit(void) { COUNT(); return start(__func__); }
API nvmlReturn_t nvmlInit_v2(void) { COUNT(); return start(__func__); }
API nvmlReturn_t nvmlInitWithFlags(unsigned flags) { (void)flags; COUNT(); return start(__func__); }

API nvmlReturn_t nvmlShutdown(void)
{
    ENTER();
    pthread_mutex_lock(&init_lock);
    init_count--;
    pthread_mutex_unlock(&init_lock);
    return NVML_SUCCESS;
}

API const char *nvmlErrorString(nvmlReturn_t code)
{
    COUNT();
    switch (code) {
    case NVML_SUCCESS: return "Success";
    case NVML_ERROR_UNINITIALIZED: return "Uninitialized";
    case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
    case NVML_ERROR_NO_PERMISSION: return "Insufficient Permissions";
    case NVML_ERROR_NOT_FOUND: return "Not Found";
    case NVML_ERROR_INSUFFICIENT_SIZE: return "Insufficient Size";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case NVML_ERROR_TIMEOUT: return "Timeout";
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
    case NVML_ERROR_LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    case NVML_ERROR_ARGUMENT_VERSION_MISMATCH: return "The provided version is invalid/unsupported";
    default: return "Unknown Error";
    }
}

API nvmlReturn_t nvmlSystemGetDriverVersion(char *out, unsigned length)
{
    ENTER();
    return copy_text(world->driver_version, out, length);
}

/* Works without nvmlInit: nvidia-smi prints it in its message of a version mismatch. */
API nvmlReturn_t nvmlSystemGetNVMLVersion(char *out, unsigned length)
{
    COUNT();
    return copy_text(world_get()->nvml_version, out, length);
}

API nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *out) { ENTER(); NEED(out); *out = world->cuda_version; return 0; }
API nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *out) { ENTER(); NEED(out); *out = world->cuda_version; return 0; }
API nvmlReturn_t nvmlUnitGetCount(unsigned *out) { ENTER(); NEED(out); *out = 0; return 0; }
API nvmlReturn_t nvmlSystemGetHicVersion(unsigned *count, void *out) { ENTER(); NEED(count); (void)out; *count = 0; return 0; }

static int name_from_proc(unsigned pid, char *out, size_t length)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    size_t got = fread(out, 1, length - 1, file);
    out[got] = 0;
    fclose(file);
    return got > 0;
}

API nvmlReturn_t nvmlSystemGetProcessName(unsigned pid, char *out, unsigned length)
{
    ENTER();
    char buffer[256];
    if (world_fault(world, FAULT_INVALID_UTF8, __func__, -1))
        return copy_text("python \xff\xfe\xc3", out, length);
    for (int i = 0; i < world->gpu_count; i++)
        for (int j = 0; j < world->gpus[i]->process_count; j++)
            if (world->gpus[i]->processes[j].pid == pid && world->gpus[i]->processes[j].name)
                return copy_text(world->gpus[i]->processes[j].name, out, length);
    return name_from_proc(pid, buffer, sizeof buffer) ? copy_text(buffer, out, length) : NVML_ERROR_NOT_FOUND;
}

/* ---- handles ---- */

static int is_dropped(const struct world *world, int gpu)
{
    return world->fault_count && world_fault(world, FAULT_GPU_DROPPED, NULL, gpu);
}

static nvmlReturn_t count_devices(const struct world *world, unsigned *out)
{
    NEED(out);
    *out = 0;
    for (int i = 0; i < world->gpu_count; i++)
        *out += !is_dropped(world, i);
    return NVML_SUCCESS;
}

static nvmlReturn_t give_handle(const struct world *world, int gpu, Device *out)
{
    if (world->fault_count && world_fault(world, FAULT_GPU_GONE, NULL, gpu))
        return NVML_ERROR_UNKNOWN;
    *out = &handles[gpu][0];
    return NVML_SUCCESS;
}

static nvmlReturn_t handle_by_index(const struct world *world, unsigned index, Device *out)
{
    NEED(out);
    for (int i = 0; i < world->gpu_count; i++)
        if (!is_dropped(world, i) && index-- == 0)
            return give_handle(world, i, out);
    return NVML_ERROR_INVALID_ARGUMENT;
}

static nvmlReturn_t handle_by_text(const struct world *world, enum field field, const char *text, Device *out)
{
    NEED(text && out);
    for (int i = 0; i < world->gpu_count; i++) {
        const struct gpu *gpu = world->gpus[i];
        const struct value *value = &gpu->self.values[field];
        if (!is_dropped(world, i) && !value->code && !strcasecmp(value->text, text))
            return give_handle(world, i, out);
        for (int j = 0; j < gpu->slice_count; j++) {
            value = &gpu->slices[j]->values[field];
            if (!is_dropped(world, i) && !value->code && !strcasecmp(value->text, text)) {
                *out = &handles[i][1 + j];
                return NVML_SUCCESS;
            }
        }
    }
    return NVML_ERROR_NOT_FOUND;
}

/* "0000:01:00.0" and "00000000:01:00.0" are the same place. */
static nvmlReturn_t handle_by_bus_id(const struct world *world, const char *text, Device *out)
{
    NEED(text && out);
    unsigned domain, bus, device;
    char full[32];
    if (sscanf(text, "%x:%x:%x", &domain, &bus, &device) != 3)
        return NVML_ERROR_INVALID_ARGUMENT;
    snprintf(full, sizeof full, "%08X:%02X:%02X.0", domain, bus, device);
    return handle_by_text(world, F_pci_bus_id, full, out);
}

API nvmlReturn_t nvmlDeviceGetCount(unsigned *out) { ENTER(); return count_devices(world, out); }
API nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *out) { ENTER(); return count_devices(world, out); }
API nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned index, Device *out) { ENTER(); return handle_by_index(world, index, out); }
API nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *out) { ENTER(); return handle_by_index(world, index, out); }
API nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, Device *out) { ENTER(); return handle_by_text(world, F_uuid, uuid, out); }
API nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, Device *out) { ENTER(); return handle_by_text(world, F_serial, serial, out); }
API nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *id, Device *out) { ENTER(); return handle_by_bus_id(world, id, out); }
API nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *id, Device *out) { ENTER(); return handle_by_bus_id(world, id, out); }

/* ---- plain getters ---- */

#define GET_NUMBER(function, type, field)                                           \
    API nvmlReturn_t function(Device handle, type *out)                             \
    {                                                                               \
        DEVICE(handle);                                                             \
        NEED(out);                                                                  \
        TAKE(value, field);                                                         \
        *out = (type)value;                                                         \
        return NVML_SUCCESS;                                                        \
    }

#define GET_PAIR(function, type, first, second)                                     \
    API nvmlReturn_t function(Device handle, type *out1, type *out2)                \
    {                                                                               \
        DEVICE(handle);                                                             \
        NEED(out1 && out2);                                                         \
        TAKE(value1, first);                                                        \
        TAKE(value2, second);                                                       \
        *out1 = (type)value1;                                                       \
        *out2 = (type)value2;                                                       \
        return NVML_SUCCESS;                                                        \
    }

#define GET_TEXT(function, field)                                                   \
    API nvmlReturn_t function(Device handle, char *out, unsigned length)            \
    {                                                                               \
        DEVICE(handle);                                                             \
        return copy_value(&entity->values[F_##field], out, length);                 \
    }

/* Value and the time (microseconds) over which it was measured. */
#define GET_UTILIZATION(function, field)                                            \
    API nvmlReturn_t function(Device handle, unsigned *out, unsigned *period)       \
    {                                                                               \
        DEVICE(handle);                                                             \
        NEED(out && period);                                                        \
        TAKE(value, field);                                                         \
        *out = (unsigned)value;                                                     \
        *period = TICK_MICROSECONDS;                                                \
        return NVML_SUCCESS;                                                        \
    }

GET_TEXT(nvmlDeviceGetUUID, uuid)
GET_TEXT(nvmlDeviceGetSerial, serial)
GET_TEXT(nvmlDeviceGetVbiosVersion, vbios_version)
GET_TEXT(nvmlDeviceGetBoardPartNumber, board_part_number)
GET_TEXT(nvmlDeviceGetInforomImageVersion, inforom_image_version)
GET_NUMBER(nvmlDeviceGetMinorNumber, unsigned, minor_number)
GET_NUMBER(nvmlDeviceGetNumaNodeId, unsigned, numa_node)
GET_NUMBER(nvmlDeviceGetBoardId, unsigned, board_id)
GET_NUMBER(nvmlDeviceGetMultiGpuBoard, unsigned, multi_gpu_board)
GET_NUMBER(nvmlDeviceGetVirtualizationMode, unsigned, virtualization_mode)
GET_NUMBER(nvmlDeviceGetBrand, unsigned, brand)
GET_NUMBER(nvmlDeviceGetArchitecture, unsigned, architecture)
GET_NUMBER(nvmlDeviceGetNumGpuCores, unsigned, core_count)
GET_NUMBER(nvmlDeviceGetMemoryBusWidth, unsigned, memory_bus_width_bits)
GET_PAIR(nvmlDeviceGetCudaComputeCapability, int, compute_capability_major, compute_capability_minor)
GET_UTILIZATION(nvmlDeviceGetEncoderUtilization, utilization_encoder_percent)
GET_UTILIZATION(nvmlDeviceGetDecoderUtilization, utilization_decoder_percent)
GET_UTILIZATION(nvmlDeviceGetJpgUtilization, utilization_jpeg_percent)
GET_UTILIZATION(nvmlDeviceGetOfaUtilization, utilization_ofa_percent)
GET_NUMBER(nvmlDeviceGetPowerUsage, unsigned, power_milliwatts)
GET_NUMBER(nvmlDeviceGetPowerManagementLimit, unsigned, power_limit_milliwatts)
GET_NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, unsigned, power_default_limit_milliwatts)
GET_NUMBER(nvmlDeviceGetEnforcedPowerLimit, unsigned, power_enforced_limit_milliwatts)
GET_PAIR(nvmlDeviceGetPowerManagementLimitConstraints, unsigned, power_min_limit_milliwatts, power_max_limit_milliwatts)
GET_NUMBER(nvmlDeviceGetTotalEnergyConsumption, uint64_t, energy_millijoules)
GET_NUMBER(nvmlDeviceGetPerformanceState, unsigned, performance_state)
GET_NUMBER(nvmlDeviceGetPowerState, unsigned, performance_state)
GET_NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, uint64_t, clocks_event_reasons)
GET_NUMBER(nvmlDeviceGetCurrentClocksEventReasons, uint64_t, clocks_event_reasons)
GET_NUMBER(nvmlDeviceGetSupportedClocksThrottleReasons, uint64_t, clocks_event_reasons_supported)
GET_NUMBER(nvmlDeviceGetSupportedClocksEventReasons, uint64_t, clocks_event_reasons_supported)
GET_NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, unsigned, pcie_generation)
GET_NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, unsigned, pcie_generation_max)
GET_NUMBER(nvmlDeviceGetGpuMaxPcieLinkGeneration, unsigned, pcie_generation_device_max)
GET_NUMBER(nvmlDeviceGetCurrPcieLinkWidth, unsigned, pcie_width)
GET_NUMBER(nvmlDeviceGetMaxPcieLinkWidth, unsigned, pcie_width_max)
GET_NUMBER(nvmlDeviceGetPcieReplayCounter, unsigned, pcie_replay_count)
GET_PAIR(nvmlDeviceGetEccMode, unsigned, ecc_mode_current, ecc_mode_pending)
GET_NUMBER(nvmlDeviceGetDefaultEccMode, unsigned, ecc_mode_default)
GET_NUMBER(nvmlDeviceGetRetiredPagesPendingStatus, unsigned, retired_pages_pending)
GET_NUMBER(nvmlDeviceGetSupportedEventTypes, uint64_t, event_types_supported)
GET_NUMBER(nvmlDeviceGetComputeMode, unsigned, compute_mode)
GET_NUMBER(nvmlDeviceGetPersistenceMode, unsigned, persistence_mode)
GET_NUMBER(nvmlDeviceGetDisplayMode, unsigned, display_mode)
GET_NUMBER(nvmlDeviceGetDisplayActive, unsigned, display_active)
GET_NUMBER(nvmlDeviceGetAccountingMode, unsigned, accounting_mode)
GET_PAIR(nvmlDeviceGetMigMode, unsigned, mig_mode_current, mig_mode_pending)
GET_NUMBER(nvmlDeviceGetGpuInstanceId, unsigned, gpu_instance_id)
GET_NUMBER(nvmlDeviceGetComputeInstanceId, unsigned, compute_instance_id)

API nvmlReturn_t nvmlDeviceGetName(Device handle, char *out, unsigned length)
{
    DEVICE(handle);
    if (world_fault(world, FAULT_INVALID_UTF8, __func__, gpu))
        return copy_text("NVIDIA \xff\xfe\xc3 H100", out, length);
    return copy_value(&entity->values[F_name], out, length);
}

API nvmlReturn_t nvmlDeviceGetGspFirmwareVersion(Device handle, char *out)
{
    DEVICE(handle);
    return copy_value(&entity->values[F_gsp_firmware_version], out, 64);
}

API nvmlReturn_t nvmlDeviceGetGspFirmwareMode(Device handle, unsigned *enabled, unsigned *by_default)
{
    DEVICE(handle);
    NEED(enabled && by_default);
    *enabled = *by_default = entity->values[F_gsp_firmware_version].code == 0;
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetIndex(Device handle, unsigned *out)
{
    DEVICE(handle);
    NEED(out);
    *out = (unsigned)(slice < 0 ? gpu : slice);
    for (int i = 0; slice < 0 && i < gpu; i++)
        *out -= is_dropped(world, i) != 0;
    return NVML_SUCCESS;
}

struct pci_info {
    char legacy_bus_id[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
};

static nvmlReturn_t pci_info(const struct entity *entity, struct pci_info *out)
{
    NEED(out);
    const struct value *id = &entity->values[F_pci_bus_id];
    if (id->code)
        return (nvmlReturn_t)id->code;
    memset(out, 0, sizeof *out);
    sscanf(id->text, "%x:%x:%x", &out->domain, &out->bus, &out->device);
    snprintf(out->legacy_bus_id, sizeof out->legacy_bus_id, "%04X:%02X:%02X.0", out->domain & 0xffff, out->bus & 0xff,
             out->device & 0xff);
    snprintf(out->bus_id, sizeof out->bus_id, "%s", id->text);
    out->device_id = (unsigned)entity->values[F_pci_device_id].number;
    out->subsystem_id = (unsigned)entity->values[F_pci_subsystem_id].number;
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetPciInfo(Device handle, struct pci_info *out) { DEVICE(handle); return pci_info(entity, out); }
API nvmlReturn_t nvmlDeviceGetPciInfo_v2(Device handle, struct pci_info *out) { DEVICE(handle); return pci_info(entity, out); }
API nvmlReturn_t nvmlDeviceGetPciInfo_v3(Device handle, struct pci_info *out) { DEVICE(handle); return pci_info(entity, out); }

/* ---- memory and utilization ---- */

struct memory_v1 { uint64_t total, free, used; };
struct memory_v2 { unsigned version; uint64_t total, reserved, free, used; };

/* Version 1 counts the driver's reserve as used; version 2 shows it apart. */
API nvmlReturn_t nvmlDeviceGetMemoryInfo(Device handle, struct memory_v1 *out)
{
    DEVICE(handle);
    NEED(out);
    TAKE(total, memory_total_bytes);
    TAKE(reserved, memory_reserved_bytes);
    TAKE(used, memory_used_bytes);
    *out = (struct memory_v1){(uint64_t)total, (uint64_t)(total - reserved - used), (uint64_t)(reserved + used)};
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(Device handle, struct memory_v2 *out)
{
    DEVICE(handle);
    NEED(out);
    if (out->version != (sizeof *out | 2 << 24))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    TAKE(total, memory_total_bytes);
    TAKE(reserved, memory_reserved_bytes);
    TAKE(used, memory_used_bytes);
    out->total = (uint64_t)total;
    out->reserved = (uint64_t)reserved;
    out->used = (uint64_t)used;
    out->free = (uint64_t)(total - reserved - used);
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(Device handle, struct memory_v1 *out)
{
    DEVICE(handle);
    NEED(out);
    TAKE(total, bar1_total_bytes);
    TAKE(used, bar1_used_bytes);
    *out = (struct memory_v1){(uint64_t)total, (uint64_t)(total - used), (uint64_t)used};
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetUtilizationRates(Device handle, unsigned out[2])
{
    DEVICE(handle);
    NEED(out);
    TAKE(busy, utilization_gpu_percent);
    TAKE(memory, utilization_memory_percent);
    out[0] = (unsigned)busy;
    out[1] = (unsigned)memory;
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetEncoderStats(Device handle, unsigned *sessions, unsigned *fps, unsigned *latency)
{
    DEVICE(handle);
    NEED(sessions && fps && latency);
    TAKE(session_count, encoder_session_count);
    *sessions = (unsigned)session_count;
    *fps = (unsigned)entity->values[F_encoder_average_fps].number;
    *latency = (unsigned)entity->values[F_encoder_average_latency_microseconds].number;
    return NVML_SUCCESS;
}

union sample_value { double real; unsigned number; uint64_t wide; int64_t signed_wide; int signed_number; };
struct sample { uint64_t time; union sample_value value; };

/* One sample a tick, newer than last_seen, at most what a ring of 20 ticks still holds. */
API nvmlReturn_t nvmlDeviceGetSamples(Device handle, unsigned type, uint64_t last_seen, unsigned *value_type,
                                      unsigned *count, struct sample *out)
{
    static const enum field by_type[] = {F_power_milliwatts, F_utilization_gpu_percent, F_utilization_memory_percent,
                                         F_utilization_encoder_percent, F_utilization_decoder_percent,
                                         F_clock_graphics_mhz, F_clock_memory_mhz};
    DEVICE(handle);
    NEED(value_type && count && type < sizeof by_type / sizeof *by_type);
    const struct value *value = &entity->values[by_type[type]];
    if (value->code)
        return (nvmlReturn_t)value->code;
    uint64_t newest = microseconds_now() / TICK_MICROSECONDS, oldest = last_seen / TICK_MICROSECONDS + 1;
    *value_type = 1; /* NVML_VALUE_TYPE_UNSIGNED_INT */
    if (newest > 20 && oldest < newest - 19)
        oldest = newest - 19;
    if (!out) {
        *count = 120;
        return NVML_SUCCESS;
    }
    if (oldest > newest)
        return NVML_ERROR_NOT_FOUND;
    unsigned length = (unsigned)(newest - oldest + 1);
    if (*count < length)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < length; i++)
        out[i] = (struct sample){(oldest + i) * TICK_MICROSECONDS, {.number = (unsigned)value->number}};
    *count = length;
    return NVML_SUCCESS;
}

/* ---- temperature, clocks, fans, violations ---- */

static nvmlReturn_t temperature(struct world *world, const struct entity *entity, int gpu, unsigned sensor, int *out)
{
    const struct fault *fault = world_fault(world, FAULT_TEMPERATURE_SENTINEL, NULL, gpu);
    NEED(out && sensor == 0);
    TAKE(value, temperature_celsius);
    *out = (int)(fault ? fault->value : value);
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetTemperature(Device handle, unsigned sensor, int *out)
{
    DEVICE(handle);
    return temperature(world, entity, gpu, sensor, out);
}

struct temperature_v1 { unsigned version, sensor; int celsius; };

API nvmlReturn_t nvmlDeviceGetTemperatureV(Device handle, struct temperature_v1 *out)
{
    DEVICE(handle);
    NEED(out);
    if (out->version != (sizeof *out | 1 << 24))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return temperature(world, entity, gpu, out->sensor, &out->celsius);
}

struct margin_v1 { unsigned version; int celsius; };

API nvmlReturn_t nvmlDeviceGetMarginTemperature(Device handle, struct margin_v1 *out)
{
    DEVICE(handle);
    NEED(out);
    if (out->version != (sizeof *out | 1 << 24))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    TAKE(margin, temperature_margin_celsius);
    out->celsius = (int)margin;
    return NVML_SUCCESS;
}

static nvmlReturn_t one_of(const struct entity *entity, const enum field *list, size_t length, unsigned index, unsigned *out)
{
    NEED(out && index < length);
    const struct value *value = &entity->values[list[index]];
    if (!value->code)
        *out = (unsigned)value->number;
    return (nvmlReturn_t)value->code;
}

API nvmlReturn_t nvmlDeviceGetTemperatureThreshold(Device handle, unsigned threshold, unsigned *out)
{
    static const enum field list[] = {F_temperature_shutdown_celsius, F_temperature_slowdown_celsius,
                                      F_temperature_memory_max_celsius, F_temperature_gpu_max_celsius};
    DEVICE(handle);
    if (threshold == 5) { /* NVML_TEMPERATURE_THRESHOLD_ACOUSTIC_CURR */
        NEED(out);
        TAKE(target, temperature_target_celsius);
        *out = (unsigned)target;
        return NVML_SUCCESS;
    }
    if (threshold > 5 || threshold == 4)
        return NVML_ERROR_NOT_SUPPORTED;
    return one_of(entity, list, 4, threshold, out);
}

static const enum field clocks_now[] = {F_clock_graphics_mhz, F_clock_sm_mhz, F_clock_memory_mhz, F_clock_video_mhz};
static const enum field clocks_max[] = {F_clock_graphics_max_mhz, F_clock_sm_max_mhz, F_clock_memory_max_mhz,
                                        F_clock_video_max_mhz};

API nvmlReturn_t nvmlDeviceGetClockInfo(Device handle, unsigned type, unsigned *out)
{
    DEVICE(handle);
    return one_of(entity, clocks_now, 4, type, out);
}

API nvmlReturn_t nvmlDeviceGetMaxClockInfo(Device handle, unsigned type, unsigned *out)
{
    DEVICE(handle);
    return one_of(entity, clocks_max, 4, type, out);
}

API nvmlReturn_t nvmlDeviceGetClock(Device handle, unsigned type, unsigned id, unsigned *out)
{
    DEVICE(handle);
    return id ? NVML_ERROR_NOT_SUPPORTED : one_of(entity, clocks_now, 4, type, out);
}

static nvmlReturn_t fan_speed(const struct entity *entity, unsigned fan, unsigned *out)
{
    const struct value *fans = &entity->values[F_fan_speeds_percent];
    NEED(out);
    if (fans->code)
        return (nvmlReturn_t)fans->code;
    if (fan >= list_length(fans->text))
        return NVML_ERROR_INVALID_ARGUMENT;
    *out = (unsigned)list_at(fans->text, fan);
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetFanSpeed(Device handle, unsigned *out) { DEVICE(handle); return fan_speed(entity, 0, out); }
API nvmlReturn_t nvmlDeviceGetFanSpeed_v2(Device handle, unsigned fan, unsigned *out) { DEVICE(handle); return fan_speed(entity, fan, out); }

API nvmlReturn_t nvmlDeviceGetNumFans(Device handle, unsigned *out)
{
    DEVICE(handle);
    NEED(out);
    TAKE(unused, fan_speeds_percent);
    (void)unused;
    *out = list_length(entity->values[F_fan_speeds_percent].text);
    return NVML_SUCCESS;
}

static const enum field violations[] = {F_violation_power_nanoseconds, F_violation_thermal_nanoseconds,
                                        F_violation_sync_boost_nanoseconds, F_violation_board_limit_nanoseconds,
                                        F_violation_low_utilization_nanoseconds, F_violation_reliability_nanoseconds,
                                        F_violation_app_clocks_nanoseconds, F_violation_base_clocks_nanoseconds};

struct violation { uint64_t reference_nanoseconds, violated_nanoseconds; };

/* Policies 0 to 5, then 10 and 11. */
API nvmlReturn_t nvmlDeviceGetViolationStatus(Device handle, unsigned policy, struct violation *out)
{
    DEVICE(handle);
    NEED(out && policy < 12 && (policy < 6 || policy > 9));
    const struct value *value = &entity->values[violations[policy < 6 ? policy : policy - 4]];
    if (value->code)
        return (nvmlReturn_t)value->code;
    *out = (struct violation){microseconds_now() * 1000, (uint64_t)value->number};
    return NVML_SUCCESS;
}

/* ---- PCIe and NVLink ---- */

API nvmlReturn_t nvmlDeviceGetPcieThroughput(Device handle, unsigned counter, unsigned *out)
{
    static const enum field list[] = {F_pcie_tx_kilobytes_per_second, F_pcie_rx_kilobytes_per_second};
    DEVICE(handle);
    return one_of(entity, list, 2, counter, out);
}

static nvmlReturn_t link_state(const struct entity *entity, unsigned link, unsigned *out)
{
    const struct value *links = &entity->values[F_nvlink_states];
    NEED(out);
    if (links->code)
        return (nvmlReturn_t)links->code;
    if (link >= list_length(links->text))
        return NVML_ERROR_INVALID_ARGUMENT;
    *out = (unsigned)list_at(links->text, link);
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetNvLinkState(Device handle, unsigned link, unsigned *out) { DEVICE(handle); return link_state(entity, link, out); }

API nvmlReturn_t nvmlDeviceGetNvLinkVersion(Device handle, unsigned link, unsigned *out)
{
    DEVICE(handle);
    nvmlReturn_t code = link_state(entity, link, out);
    if (code)
        return code;
    TAKE(version, nvlink_version);
    *out = (unsigned)version;
    return NVML_SUCCESS;
}

/* ---- ECC and memory repair ---- */

static const enum field ecc_fields[2][2][2] = {
    {{F_ecc_corrected_volatile_sram, F_ecc_corrected_volatile_dram},
     {F_ecc_corrected_aggregate_sram, F_ecc_corrected_aggregate_dram}},
    {{F_ecc_uncorrected_volatile_sram, F_ecc_uncorrected_volatile_dram},
     {F_ecc_uncorrected_aggregate_sram, F_ecc_uncorrected_aggregate_dram}},
};

static nvmlReturn_t ecc_total(const struct entity *entity, unsigned type, unsigned counter, uint64_t *out)
{
    NEED(out && type < 2 && counter < 2);
    const struct value *sram = &entity->values[ecc_fields[type][counter][0]];
    const struct value *dram = &entity->values[ecc_fields[type][counter][1]];
    if (sram->code || dram->code)
        return (nvmlReturn_t)(sram->code ? sram->code : dram->code);
    *out = (uint64_t)(sram->number + dram->number);
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetTotalEccErrors(Device handle, unsigned type, unsigned counter, uint64_t *out)
{
    DEVICE(handle);
    return ecc_total(entity, type, counter, out);
}

/* The real cards tell DRAM (2) and SRAM (7) only. */
API nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(Device handle, unsigned type, unsigned counter, unsigned location,
                                                 uint64_t *out)
{
    DEVICE(handle);
    NEED(out && type < 2 && counter < 2 && location < 8);
    if (location != 2 && location != 7)
        return NVML_ERROR_NOT_SUPPORTED;
    const struct value *value = &entity->values[ecc_fields[type][counter][location == 2]];
    if (!value->code)
        *out = (uint64_t)value->number;
    return (nvmlReturn_t)value->code;
}

API nvmlReturn_t nvmlDeviceGetRemappedRows(Device handle, unsigned *corrected, unsigned *uncorrected, unsigned *pending,
                                           unsigned *failed)
{
    DEVICE(handle);
    NEED(corrected && uncorrected && pending && failed);
    TAKE(value, remapped_rows_correctable);
    *corrected = (unsigned)value;
    *uncorrected = (unsigned)entity->values[F_remapped_rows_uncorrectable].number;
    *pending = (unsigned)entity->values[F_remapped_rows_pending].number;
    *failed = (unsigned)entity->values[F_remapped_rows_failure].number;
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetRowRemapperHistogram(Device handle, unsigned out[5])
{
    DEVICE(handle);
    NEED(out);
    const struct value *list = &entity->values[F_remapped_rows_histogram];
    for (unsigned i = 0; i < 5 && !list->code; i++)
        out[i] = (unsigned)list_at(list->text, i);
    return (nvmlReturn_t)list->code;
}

static nvmlReturn_t retired_pages(const struct entity *entity, unsigned cause, unsigned *count, uint64_t *addresses)
{
    static const enum field list[] = {F_retired_pages_single_bit, F_retired_pages_double_bit};
    unsigned pages;
    NEED(count);
    nvmlReturn_t code = one_of(entity, list, 2, cause, &pages);
    if (code)
        return code;
    if (pages > *count || (pages && !addresses)) {
        *count = pages;
        return NVML_ERROR_INSUFFICIENT_SIZE;
    }
    *count = pages;
    for (unsigned i = 0; i < pages; i++)
        addresses[i] = 0x10000ull * (i + 1);
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetRetiredPages(Device handle, unsigned cause, unsigned *count, uint64_t *addresses)
{
    DEVICE(handle);
    return retired_pages(entity, cause, count, addresses);
}

API nvmlReturn_t nvmlDeviceGetRetiredPages_v2(Device handle, unsigned cause, unsigned *count, uint64_t *addresses,
                                              uint64_t *times)
{
    DEVICE(handle);
    nvmlReturn_t code = retired_pages(entity, cause, count, addresses);
    for (unsigned i = 0; !code && times && i < *count; i++)
        times[i] = microseconds_now();
    return code;
}

/* ---- field values ---- */

struct field_value {
    unsigned id, scope;
    int64_t time, latency;
    unsigned type, code;
    union sample_value value;
};

enum value_type { DOUBLE, UNSIGNED, UNSIGNED_LONG, UNSIGNED_LONG_LONG, SIGNED_LONG_LONG, SIGNED };

/* NVML_FI_DEV_*: those that are simply a field. */
static const struct { unsigned id; enum value_type type; enum field field; } field_ids[] = {
    {1, UNSIGNED, F_ecc_mode_current}, {2, UNSIGNED, F_ecc_mode_pending}, {29, UNSIGNED, F_retired_pages_single_bit},
    {30, UNSIGNED, F_retired_pages_double_bit}, {31, UNSIGNED, F_retired_pages_pending},
    {74, UNSIGNED_LONG_LONG, F_violation_power_nanoseconds}, {75, UNSIGNED_LONG_LONG, F_violation_thermal_nanoseconds},
    {76, UNSIGNED_LONG_LONG, F_violation_sync_boost_nanoseconds},
    {77, UNSIGNED_LONG_LONG, F_violation_board_limit_nanoseconds},
    {78, UNSIGNED_LONG_LONG, F_violation_low_utilization_nanoseconds},
    {79, UNSIGNED_LONG_LONG, F_violation_reliability_nanoseconds},
    {80, UNSIGNED_LONG_LONG, F_violation_app_clocks_nanoseconds},
    {81, UNSIGNED_LONG_LONG, F_violation_base_clocks_nanoseconds}, {82, UNSIGNED, F_temperature_memory_celsius},
    {83, UNSIGNED_LONG_LONG, F_energy_millijoules}, {90, UNSIGNED, F_nvlink_speed_megabytes_per_second},
    {94, UNSIGNED, F_pcie_replay_count}, {95, UNSIGNED, F_pcie_replay_rollover_count},
    {138, UNSIGNED_LONG_LONG, F_nvlink_tx_kibibytes}, {139, UNSIGNED_LONG_LONG, F_nvlink_rx_kibibytes},
    {142, UNSIGNED, F_remapped_rows_correctable}, {143, UNSIGNED, F_remapped_rows_uncorrectable},
    {144, UNSIGNED, F_remapped_rows_pending}, {145, UNSIGNED, F_remapped_rows_failure},
    {164, UNSIGNED, F_nvlink_speed_megabytes_per_second}, {166, UNSIGNED, F_nvlink_version},
    {186, UNSIGNED, F_power_instant_milliwatts}, {187, UNSIGNED, F_power_min_limit_milliwatts},
    {188, UNSIGNED, F_power_max_limit_milliwatts}, {189, UNSIGNED, F_power_default_limit_milliwatts},
    {190, UNSIGNED, F_power_enforced_limit_milliwatts}, {191, UNSIGNED_LONG_LONG, F_energy_millijoules},
    {192, UNSIGNED, F_power_limit_milliwatts}, {193, SIGNED, F_tlimit_shutdown_celsius},
    {194, SIGNED, F_tlimit_slowdown_celsius}, {195, SIGNED, F_tlimit_memory_max_celsius},
    {196, SIGNED, F_tlimit_gpu_max_celsius}, {230, UNSIGNED, F_recovery_action},
    {269, UNSIGNED_LONG_LONG, F_slowdown_sw_thermal_nanoseconds},
    {270, UNSIGNED_LONG_LONG, F_slowdown_hw_thermal_nanoseconds},
    {271, UNSIGNED_LONG_LONG, F_slowdown_hw_power_brake_nanoseconds},
};

#define FIELD_ID_MAX 308
#define SCOPE_GPU 0
#define SCOPE_MODULE 1
#define SCOPE_MEMORY 2

static void put_field(struct field_value *out, enum value_type type, const struct value *value)
{
    out->type = type;
    out->code = (unsigned)value->code;
    if (value->code)
        return;
    if (type == UNSIGNED_LONG_LONG)
        out->value.wide = (uint64_t)value->number;
    else if (type == SIGNED)
        out->value.signed_number = (int)value->number;
    else
        out->value.number = (unsigned)value->number;
}

static void power_field(const struct entity *entity, struct field_value *out)
{
    enum field field = out->scope == SCOPE_MODULE   ? F_power_module_average_milliwatts
                       : out->scope == SCOPE_MEMORY ? F_power_memory_average_milliwatts
                                                    : F_power_average_milliwatts;
    put_field(out, UNSIGNED, &entity->values[field]);
}

static void link_field(const struct entity *entity, struct field_value *out)
{
    unsigned number = 0;
    const struct value *links = &entity->values[F_nvlink_states];
    if (out->id == 91 && !(out->code = (unsigned)links->code))
        number = list_length(links->text);
    else if (out->id == 165)
        out->code = link_state(entity, out->scope, &number);
    out->type = UNSIGNED;
    out->value.number = number;
}

static void one_field(struct world *world, const struct entity *entity, int gpu, struct field_value *out)
{
    const struct fault *sentinel = world_fault(world, FAULT_TEMPERATURE_SENTINEL, NULL, gpu);
    out->value.wide = 0;
    out->code = out->id == 0 || out->id >= FIELD_ID_MAX ? NVML_ERROR_INVALID_ARGUMENT : NVML_ERROR_NOT_SUPPORTED;
    if (out->id >= 3 && out->id <= 6) {
        out->type = UNSIGNED_LONG_LONG;
        out->code = ecc_total(entity, (out->id + 1) % 2, out->id >= 5, &out->value.wide);
    } else if (out->id == 91 || out->id == 165)
        link_field(entity, out);
    else if (out->id == 185)
        power_field(entity, out);
    else if (out->id >= 186 && out->id <= 192 && out->scope != SCOPE_GPU)
        return;
    else
        for (size_t i = 0; i < sizeof field_ids / sizeof *field_ids; i++)
            if (field_ids[i].id == out->id)
                put_field(out, field_ids[i].type, &entity->values[field_ids[i].field]);
    if (sentinel && out->id == 82 && !out->code)
        out->value.number = (unsigned)sentinel->value;
}

API nvmlReturn_t nvmlDeviceGetFieldValues(Device handle, int count, struct field_value *values)
{
    DEVICE(handle);
    NEED(values && count > 0);
    int64_t now = (int64_t)microseconds_now();
    for (int i = 0; i < count; i++) {
        values[i].time = now;
        values[i].latency = 1;
        one_field(world, entity, gpu, &values[i]);
    }
    return NVML_SUCCESS;
}

/* ---- MIG ---- */

API nvmlReturn_t nvmlDeviceIsMigDeviceHandle(Device handle, unsigned *out) { DEVICE(handle); NEED(out); *out = slice >= 0; return 0; }

/* Zero where MIG is off or unknown to the card. */
API nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(Device handle, unsigned *out)
{
    DEVICE(handle);
    NEED(out);
    const struct value *count = &entity->values[F_mig_max_count];
    *out = count->code ? 0 : (unsigned)count->number;
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(Device handle, unsigned index, Device *out)
{
    DEVICE(handle);
    NEED(out);
    TAKE(mode, mig_mode_current);
    if (!mode || (int64_t)index >= (int64_t)world->gpus[gpu]->slice_count)
        return NVML_ERROR_NOT_FOUND;
    *out = &handles[gpu][1 + index];
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device handle, Device *out)
{
    DEVICE(handle);
    NEED(out && slice >= 0);
    *out = &handles[gpu][0];
    return NVML_SUCCESS;
}

struct attributes {
    unsigned multiprocessors, copy_engines, decoders, encoders, jpegs, ofas, gpu_instance_slices, compute_instance_slices;
    uint64_t memory_mebibytes;
};

static nvmlReturn_t attributes(const struct entity *entity, struct attributes *out)
{
    NEED(out);
    TAKE(multiprocessors, multiprocessor_count);
#define AT(field) ((unsigned)entity->values[F_##field].number)
    *out = (struct attributes){(unsigned)multiprocessors, AT(copy_engine_count), AT(decoder_count), AT(encoder_count),
                               AT(jpeg_count), AT(ofa_count), AT(gpu_instance_slice_count),
                               AT(compute_instance_slice_count),
                               (uint64_t)entity->values[F_memory_total_bytes].number >> 20};
#undef AT
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetAttributes(Device handle, struct attributes *out) { DEVICE(handle); return attributes(entity, out); }
API nvmlReturn_t nvmlDeviceGetAttributes_v2(Device handle, struct attributes *out) { DEVICE(handle); return attributes(entity, out); }

/* ---- processes ---- */

struct process_v1 { unsigned pid, padding; uint64_t used; };
struct process_v2 { unsigned pid, padding; uint64_t used; unsigned gpu_instance, compute_instance; };
/* Of the first 535 drivers under the name _v3, and of the detail list. */
struct process_detail { unsigned pid, padding; uint64_t used; unsigned gpu_instance, compute_instance; uint64_t protected_used; };

enum process_mode { COMPUTE, GRAPHICS, MPS, ALL };

static int is_listed(const struct process *process, enum process_mode mode, const struct entity *slice)
{
    int of_mode = mode == COMPUTE ? process->compute : mode == GRAPHICS ? process->graphics : mode == MPS ? process->mps : 1;
    return of_mode && (!slice || (process->gpu_instance == (unsigned)slice->values[F_gpu_instance_id].number &&
                                  process->compute_instance == (unsigned)slice->values[F_compute_instance_id].number));
}

static nvmlReturn_t list_processes(struct world *world, struct entity *entity, int gpu, int slice, enum process_mode mode,
                                   int version, const char *function, unsigned *count, char *out)
{
    NEED(count);
    const struct gpu *owner = world->gpus[gpu];
    int unavailable = world_fault(world, FAULT_USED_MEMORY_UNAVAILABLE, function, gpu) != NULL;
    int scrambled = version == 3 && world_fault(world, FAULT_SCRAMBLED_PROCESSES, function, gpu);
    size_t size = version == 1  ? sizeof(struct process_v1)
                  : version < 4 ? sizeof(struct process_v2)
                                : sizeof(struct process_detail);
    size_t room = (size_t)*count * size, stride = scrambled ? sizeof(struct process_detail) : size;
    unsigned wanted = 0;
    for (int i = 0; i < owner->process_count; i++)
        wanted += (unsigned)is_listed(&owner->processes[i], mode, slice < 0 ? NULL : entity);
    unsigned given = *count;
    *count = wanted;
    if (wanted && (wanted > given || !out))
        return NVML_ERROR_INSUFFICIENT_SIZE;
    for (int i = 0, at = 0; i < owner->process_count; i++) {
        const struct process *process = &owner->processes[i];
        if (!is_listed(process, mode, slice < 0 ? NULL : entity))
            continue;
        struct process_detail detail = {process->pid, 0, unavailable ? UINT64_MAX : process->used_bytes,
                                        process->gpu_instance, process->compute_instance, 0};
        size_t offset = (size_t)at++ * stride;
        if (offset < room) /* a scrambled list may be longer than its buffer: the real driver wrote on */
            memcpy(out + offset, &detail, offset + stride <= room ? stride : room - offset);
    }
    return NVML_SUCCESS;
}

#define LIST_PROCESSES(name, mode, version)                                          \
    API nvmlReturn_t name(Device handle, unsigned *count, void *out)                 \
    {                                                                                \
        DEVICE(handle);                                                              \
        return list_processes(world, entity, gpu, slice, mode, version, __func__, count, out); \
    }

LIST_PROCESSES(nvmlDeviceGetComputeRunningProcesses, COMPUTE, 1)
LIST_PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, COMPUTE, 2)
LIST_PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, COMPUTE, 3)
LIST_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses, GRAPHICS, 1)
LIST_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, GRAPHICS, 2)
LIST_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, GRAPHICS, 3)
LIST_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses, MPS, 1)
LIST_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v2, MPS, 2)
LIST_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, MPS, 3)

struct process_details { unsigned version, mode, count; char *out; };

API nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(Device handle, struct process_details *list)
{
    DEVICE(handle);
    NEED(list && list->mode <= ALL);
    if (list->version != (sizeof *list | 1 << 24))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return list_processes(world, entity, gpu, slice, (enum process_mode)list->mode, 4, __func__, &list->count, list->out);
}

/* Time of the newest sample of process utilization, or 0 where nobody was active since last_seen. */
static uint64_t active_since(const struct gpu *gpu, uint64_t last_seen, unsigned *count)
{
    uint64_t newest = microseconds_now() / TICK_MICROSECONDS * TICK_MICROSECONDS;
    *count = 0;
    for (int i = 0; i < gpu->process_count; i++)
        *count += (unsigned)gpu->processes[i].active;
    return *count && newest > last_seen ? newest : 0;
}

struct process_sample { unsigned pid; uint64_t time; unsigned sm, memory, encoder, decoder; };

/* A call for the size says 100 always, as the real driver does; NOT_FOUND: nobody was active since last_seen. */
API nvmlReturn_t nvmlDeviceGetProcessUtilization(Device handle, struct process_sample *out, unsigned *count,
                                                 uint64_t last_seen)
{
    DEVICE(handle);
    NEED(count);
    TAKE(supported, process_utilization);
    (void)supported;
    unsigned active, at = 0;
    const struct gpu *owner = world->gpus[gpu];
    uint64_t time = active_since(owner, last_seen, &active);
    if (!out || (time && *count < active)) {
        *count = 100;
        return NVML_ERROR_INSUFFICIENT_SIZE;
    }
    *count = time ? active : 0;
    if (!time)
        return NVML_ERROR_NOT_FOUND;
    for (int i = 0; i < owner->process_count; i++) {
        const struct process *process = &owner->processes[i];
        if (process->active)
            out[at++] = (struct process_sample){process->pid, time, process->sm, process->memory, process->encoder,
                                                process->decoder};
    }
    return NVML_SUCCESS;
}

struct process_info { uint64_t time; unsigned pid, sm, memory, encoder, decoder, jpeg, ofa; };
struct process_infos { unsigned version, count; uint64_t last_seen; struct process_info *out; };

API nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(Device handle, struct process_infos *infos)
{
    DEVICE(handle);
    NEED(infos);
    if (infos->version != (sizeof *infos | 1 << 24))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    TAKE(supported, process_utilization);
    (void)supported;
    unsigned active, at = 0;
    const struct gpu *owner = world->gpus[gpu];
    uint64_t time = active_since(owner, infos->last_seen, &active);
    if (!infos->out || (time && infos->count < active)) {
        infos->count = 100;
        return NVML_ERROR_INSUFFICIENT_SIZE;
    }
    infos->count = time ? active : 0;
    for (int i = 0; time && i < owner->process_count; i++) {
        const struct process *process = &owner->processes[i];
        if (process->active)
            infos->out[at++] = (struct process_info){time, process->pid, process->sm, process->memory, process->encoder,
                                                     process->decoder, 0, 0};
    }
    return time ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

/* ---- events ---- */

struct event_set {
    uint64_t types[MAX_GPUS]; /* registered types of each GPU */
    uint64_t last_sequence;
    int watch; /* inotify on the control file's folder: waiting costs nothing */
};

struct event_data {
    Device device;
    uint64_t type, data;
    unsigned gpu_instance, compute_instance;
};

static uint64_t newest_event(const struct world *world)
{
    return world->event_count ? world->events[world->event_count - 1].sequence : 0;
}

API nvmlReturn_t nvmlEventSetCreate(struct event_set **out)
{
    ENTER();
    NEED(out);
    if (!(*out = calloc(1, sizeof **out)))
        return NVML_ERROR_MEMORY;
    (*out)->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if ((*out)->watch >= 0)
        inotify_add_watch((*out)->watch, world_control_directory(), IN_MOVED_TO);
    (*out)->last_sequence = newest_event(world);
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlEventSetFree(struct event_set *set)
{
    ENTER();
    NEED(set);
    if (set->watch >= 0)
        close(set->watch);
    free(set);
    return NVML_SUCCESS;
}

/* What happened before is not told: a set starts with the events after its creation. */
API nvmlReturn_t nvmlDeviceRegisterEvents(Device handle, uint64_t types, struct event_set *set)
{
    DEVICE(handle);
    NEED(set);
    TAKE(supported, event_types_supported);
    if (types & ~(uint64_t)supported)
        return NVML_ERROR_NOT_SUPPORTED;
    set->types[gpu] |= types;
    return NVML_SUCCESS;
}

static int next_event(struct event_set *set, struct event_data *out)
{
    const struct world *world = world_get();
    for (int i = 0; i < world->event_count; i++) {
        const struct event *event = &world->events[i];
        if (event->sequence <= set->last_sequence || event->gpu < 0 || event->gpu >= MAX_GPUS ||
            !(set->types[event->gpu] & event->type))
            continue;
        set->last_sequence = event->sequence;
        *out = (struct event_data){&handles[event->gpu][0], event->type, event->data, event->gpu_instance,
                                   event->compute_instance};
        return 1;
    }
    return 0;
}

static nvmlReturn_t wait_for_event(struct event_set *set, struct event_data *out, unsigned timeout_milliseconds)
{
    NEED(set && out);
    char changes[4096];
    uint64_t end = microseconds_now() + (uint64_t)timeout_milliseconds * 1000;
    for (;;) {
        uint64_t now = microseconds_now();
        struct pollfd watch = {.fd = set->watch, .events = POLLIN};
        if (next_event(set, out))
            return NVML_SUCCESS;
        if (now >= end)
            return NVML_ERROR_TIMEOUT;
        /* The file is in place before its generation word, by however long its writer stands still: look again soon. */
        uint64_t left = (end - now + 999) / 1000;
        if (poll(&watch, 1, (int)(left < 50 ? left : 50)) > 0 && read(set->watch, changes, sizeof changes) > 0)
            sleep_milliseconds(2);
    }
}

API nvmlReturn_t nvmlEventSetWait(struct event_set *set, struct event_data *out, unsigned timeout)
{
    ENTER();
    return wait_for_event(set, out, timeout);
}

API nvmlReturn_t nvmlEventSetWait_v2(struct event_set *set, struct event_data *out, unsigned timeout)
{
    ENTER();
    return wait_for_event(set, out, timeout);
}

/* ---- GPU performance monitoring ---- */

static const struct { unsigned id; enum field field; const char *name, *unit; } gpm_metrics[] = {
    {1, F_gpm_graphics_percent, "Graphics Util", "%"}, {2, F_gpm_sm_activity_percent, "SM Util", "%"},
    {3, F_gpm_sm_occupancy_percent, "SM Occupancy", "%"}, {4, F_gpm_integer_percent, "Integer Util", "%"},
    {5, F_gpm_tensor_percent, "Any Tensor Util", "%"}, {10, F_gpm_memory_bandwidth_percent, "DRAM BW Util", "%"},
    {11, F_gpm_fp64_percent, "FP64 Util", "%"}, {12, F_gpm_fp32_percent, "FP32 Util", "%"},
    {13, F_gpm_fp16_percent, "FP16 Util", "%"}, {20, F_gpm_pcie_tx_mebibytes_per_second, "PCIe TX", "MiB/s"},
    {21, F_gpm_pcie_rx_mebibytes_per_second, "PCIe RX", "MiB/s"},
    {60, F_gpm_nvlink_rx_mebibytes_per_second, "NVLink RX", "MiB/s"},
    {61, F_gpm_nvlink_tx_mebibytes_per_second, "NVLink TX", "MiB/s"},
};
#define GPM_METRICS (sizeof gpm_metrics / sizeof *gpm_metrics)

/* What the card measured up to this moment; a metric is told of two samples of one GPU. */
struct gpm_sample {
    int gpu; /* -1: nothing taken yet */
    unsigned gpu_instance;
    struct value values[GPM_METRICS];
};

struct gpm_metric {
    unsigned id, code;
    double value;
    const char *short_name, *long_name, *unit;
};

struct gpm_get {
    unsigned version, count;
    struct gpm_sample *sample1, *sample2;
    struct gpm_metric metrics[];
};

struct gpm_support { unsigned version, supported; };

API nvmlReturn_t nvmlGpmQueryDeviceSupport(Device handle, struct gpm_support *out)
{
    DEVICE(handle);
    NEED(out);
    if (out->version != 1)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    out->supported = entity->values[F_gpm_supported].code != NVML_ERROR_NOT_SUPPORTED;
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlGpmSampleAlloc(struct gpm_sample **out)
{
    ENTER();
    NEED(out);
    if (!(*out = calloc(1, sizeof **out)))
        return NVML_ERROR_MEMORY;
    (*out)->gpu = -1;
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlGpmSampleFree(struct gpm_sample *sample)
{
    ENTER();
    NEED(sample);
    free(sample);
    return NVML_SUCCESS;
}

static nvmlReturn_t take_gpm_sample(const struct entity *entity, int gpu, unsigned gpu_instance, struct gpm_sample *out)
{
    out->gpu = gpu;
    out->gpu_instance = gpu_instance;
    for (size_t i = 0; i < GPM_METRICS; i++)
        out->values[i] = entity->values[gpm_metrics[i].field];
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlGpmSampleGet(Device handle, struct gpm_sample *out)
{
    DEVICE(handle);
    NEED(out);
    TAKE(supported, gpm_supported);
    (void)supported;
    return take_gpm_sample(entity, gpu, NONE, out);
}

API nvmlReturn_t nvmlGpmMigSampleGet(Device handle, unsigned gpu_instance, struct gpm_sample *out)
{
    DEVICE(handle);
    NEED(out);
    TAKE(supported, gpm_supported);
    (void)supported;
    for (int i = 0; i < world->gpus[gpu]->slice_count; i++) {
        const struct entity *part = world->gpus[gpu]->slices[i];
        if (part->values[F_gpu_instance_id].number == (int64_t)gpu_instance)
            return take_gpm_sample(part, gpu, gpu_instance, out);
    }
    return NVML_ERROR_INVALID_ARGUMENT;
}

API nvmlReturn_t nvmlGpmMetricsGet(struct gpm_get *get)
{
    ENTER();
    NEED(get && get->sample1 && get->sample2 && get->sample1 != get->sample2);
    if (get->version != 1)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    NEED(get->sample1->gpu >= 0 && get->sample1->gpu == get->sample2->gpu &&
         get->sample1->gpu_instance == get->sample2->gpu_instance);
    for (unsigned i = 0; i < get->count; i++) {
        struct gpm_metric *out = &get->metrics[i];
        out->code = NVML_ERROR_NOT_SUPPORTED;
        for (size_t j = 0; j < GPM_METRICS; j++)
            if (gpm_metrics[j].id == out->id) {
                out->code = (unsigned)get->sample2->values[j].code;
                out->value = get->sample2->values[j].real;
                out->short_name = out->long_name = gpm_metrics[j].name;
                out->unit = gpm_metrics[j].unit;
            }
    }
    return NVML_SUCCESS;
}

#include "stubs.h"
