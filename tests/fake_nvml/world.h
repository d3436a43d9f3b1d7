/* The world that the fake driver shows: read from the control file, re-read when its generation word was bumped.
   This part knows nothing of NVML's functions; fake_nvml.c is the NVML face of it. */
#ifndef FAKE_NVML_WORLD_H
#define FAKE_NVML_WORLD_H

#include <stdint.h>

#define MAX_GPUS 64
#define MAX_SLICES 8
#define MAX_FAULTS 64
#define MAX_EVENTS 256

enum nvml_code {
    NVML_SUCCESS = 0,
    NVML_ERROR_UNINITIALIZED = 1,
    NVML_ERROR_INVALID_ARGUMENT = 2,
    NVML_ERROR_NOT_SUPPORTED = 3,
    NVML_ERROR_NO_PERMISSION = 4,
    NVML_ERROR_NOT_FOUND = 6,
    NVML_ERROR_INSUFFICIENT_SIZE = 7,
    NVML_ERROR_DRIVER_NOT_LOADED = 9,
    NVML_ERROR_TIMEOUT = 10,
    NVML_ERROR_GPU_IS_LOST = 15,
    NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18,
    NVML_ERROR_MEMORY = 20,
    NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25,
    NVML_ERROR_UNKNOWN = 999,
};

#define FIELD(name, kind) F_##name,
enum field {
#include "fields.def"
    FIELD_COUNT
};
#undef FIELD

/* One field: its NVML return code, and (when that is SUCCESS) its value. */
struct value {
    int code;
    union {
        int64_t number;
        double real;
        const char *text;
    };
};

/* A GPU or a MIG slice. */
struct entity {
    struct value values[FIELD_COUNT];
};

struct process {
    unsigned pid;
    int compute, graphics, mps;
    uint64_t used_bytes; /* 2^64-1: not available */
    int active;          /* has utilization samples */
    unsigned sm, memory, encoder, decoder;
    unsigned gpu_instance, compute_instance; /* 2^32-1: none */
    const char *name;                        /* NULL: from /proc */
};

struct gpu {
    struct entity self;
    struct entity *slices[MAX_SLICES];
    int slice_count;
    struct process *processes;
    int process_count;
};

enum fault_kind {
    FAULT_HANG,
    FAULT_HANG_DEAF,
    FAULT_SEGFAULT,
    FAULT_SLOW,
    FAULT_ERROR,
    FAULT_GPU_LOST,
    FAULT_GPU_GONE,
    FAULT_GPU_DROPPED,
    FAULT_MISMATCH,
    FAULT_MISMATCH_INIT,
    FAULT_DRIVER_GONE,
    FAULT_SCRAMBLED_PROCESSES,
    FAULT_INVALID_UTF8,
    FAULT_USED_MEMORY_UNAVAILABLE,
    FAULT_TEMPERATURE_SENTINEL,
    FAULT_KINDS
};

struct fault {
    enum fault_kind kind;
    int gpu;              /* -1: every GPU */
    const char *function; /* NULL: every function */
    int64_t value;
};

struct event {
    uint64_t sequence;
    int gpu;
    uint64_t type, data;
    unsigned gpu_instance, compute_instance;
};

struct world {
    uint64_t generation, epoch;
    int init_code;
    const char *driver_version, *nvml_version;
    int cuda_version;
    struct gpu *gpus[MAX_GPUS];
    int gpu_count;
    struct fault faults[MAX_FAULTS];
    int fault_count;
    struct event events[MAX_EVENTS];
    int event_count;
    char *text; /* the file; texts of values point into it */
};

/* A slot of the counts file, shared by all processes of one FakeDriver. */
struct counter {
    char name[112];
    uint64_t state; /* 0 free, 1 being named, 2 ready */
    uint64_t count;
};

extern struct world *world_now;
extern const volatile uint64_t *world_generation; /* the word that Python bumps */

struct world *world_reload(void);
struct counter *world_counter(const char *function);
const char *world_control_directory(void);
int world_code(const char *name);
const struct fault *world_fault(const struct world *world, enum fault_kind kind, const char *function, int gpu);

/* The world as it is now. Nearly free when nothing changed. */
static inline struct world *world_get(void)
{
    struct world *world = __atomic_load_n(&world_now, __ATOMIC_ACQUIRE);
    if (__builtin_expect(world != 0 && *world_generation <= world->generation, 1))
        return world;
    return world_reload();
}

#endif
