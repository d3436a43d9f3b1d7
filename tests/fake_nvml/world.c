/* Reads the control file (README.md describes it), and keeps the call counts. Must never fail a caller with anything
   but a line on stderr: the tests' own mistakes end there. */
#define _GNU_SOURCE
#include "world.h"

#include <ctype.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct world *world_now;
static const uint64_t never_changes;
const volatile uint64_t *world_generation = &never_changes;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char control_path[PATH_MAX];
static struct counter *counters, own_counters[512];
static int counter_count;

/* Worlds that were replaced. A caller in another thread may still look at one, so the newest few are kept. */
static struct world *graveyard[256];
static unsigned buried;

enum kind { NUMBER, REAL, TEXT, LIST };

#define FIELD(name, kind) {#name, kind},
static const struct {
    const char *name;
    enum kind kind;
} fields[] = {
#include "fields.def"
};
#undef FIELD

static const struct {
    const char *name;
    int code;
} codes[] = {
    {"SUCCESS", 0}, {"UNINITIALIZED", 1}, {"INVALID_ARGUMENT", 2}, {"NOT_SUPPORTED", 3}, {"NO_PERMISSION", 4},
    {"ALREADY_INITIALIZED", 5}, {"NOT_FOUND", 6}, {"INSUFFICIENT_SIZE", 7}, {"INSUFFICIENT_POWER", 8},
    {"DRIVER_NOT_LOADED", 9}, {"TIMEOUT", 10}, {"IRQ_ISSUE", 11}, {"LIBRARY_NOT_FOUND", 12},
    {"FUNCTION_NOT_FOUND", 13}, {"CORRUPTED_INFOROM", 14}, {"GPU_IS_LOST", 15}, {"RESET_REQUIRED", 16},
    {"OPERATING_SYSTEM", 17}, {"LIB_RM_VERSION_MISMATCH", 18}, {"IN_USE", 19}, {"MEMORY", 20}, {"NO_DATA", 21},
    {"INSUFFICIENT_RESOURCES", 23}, {"ARGUMENT_VERSION_MISMATCH", 25}, {"DEPRECATED", 26}, {"NOT_READY", 27},
    {"GPU_NOT_FOUND", 28}, {"INVALID_STATE", 29}, {"UNKNOWN", 999},
};

static const char *const fault_names[FAULT_KINDS] = {
    "hang", "hang_deaf", "segfault", "slow", "error", "gpu_lost", "gpu_gone", "gpu_dropped", "mismatch",
    "mismatch_init", "driver_gone", "scrambled_processes", "invalid_utf8", "used_memory_unavailable",
    "temperature_sentinel",
};

int world_code(const char *name)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (!strcmp(codes[i].name, name))
            return codes[i].code;
    return isdigit((unsigned char)*name) ? atoi(name) : -1;
}

const struct fault *world_fault(const struct world *world, enum fault_kind kind, const char *function, int gpu)
{
    for (int i = 0; i < world->fault_count; i++) {
        const struct fault *fault = &world->faults[i];
        if (fault->kind == kind && (fault->gpu < 0 || fault->gpu == gpu) &&
            (!fault->function || (function && !strcmp(fault->function, function))))
            return fault;
    }
    return NULL;
}

static char *trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1]))
        *--end = 0;
    return text;
}

/* The field of that name, or -1. Files list fields in the order of fields.def, so look right behind the last one. */
static int field_of(const char *name, int *last)
{
    for (int step = 1; step <= FIELD_COUNT; step++) {
        int i = (*last + step) % FIELD_COUNT;
        if (!strcmp(fields[i].name, name))
            return *last = i;
    }
    return -1;
}

static int read_value(struct value *value, enum kind kind, const char *text)
{
    char *end = "";
    value->code = NVML_SUCCESS;
    if (!strcmp(text, "N/A"))
        value->code = NVML_ERROR_NOT_SUPPORTED;
    else if (*text == '!')
        value->code = world_code(text + 1);
    else if (kind == NUMBER)
        value->number = (int64_t)(*text == '-' ? strtoll(text, &end, 0) : (long long)strtoull(text, &end, 0));
    else if (kind == REAL)
        value->real = strtod(text, &end);
    else
        value->text = text;
    return *end == 0 && value->code >= 0;
}

/* The next "key=value" of a line; a key "name" takes all the rest. Returns NULL at the end. */
static char *next_pair(char **rest, char **value)
{
    char *key = trim(*rest);
    char *equals = strchr(key, '=');
    if (!equals)
        return NULL;
    *equals = 0;
    *value = equals + 1;
    char *end = strcmp(key, "name") ? *value + strcspn(*value, " \t") : *value + strlen(*value);
    *rest = *end ? end + 1 : end;
    *end = 0;
    return key;
}

static int read_process(struct gpu *gpu, char *text)
{
    struct process process = {.used_bytes = UINT64_MAX, .gpu_instance = UINT_MAX, .compute_instance = UINT_MAX};
    char *key, *value;
    while ((key = next_pair(&text, &value))) {
        unsigned number = (unsigned)strtoul(value, NULL, 10);
        if (!strcmp(key, "pid"))
            process.pid = number;
        else if (!strcmp(key, "type")) {
            process.compute = strchr(value, 'C') != NULL;
            process.graphics = strchr(value, 'G') != NULL;
            process.mps = strchr(value, 'M') != NULL;
        } else if (!strcmp(key, "used"))
            process.used_bytes = strtoull(value, NULL, 10);
        else if (!strcmp(key, "sm") && (process.active = 1))
            process.sm = number;
        else if (!strcmp(key, "mem") && (process.active = 1))
            process.memory = number;
        else if (!strcmp(key, "enc") && (process.active = 1))
            process.encoder = number;
        else if (!strcmp(key, "dec") && (process.active = 1))
            process.decoder = number;
        else if (!strcmp(key, "gi"))
            process.gpu_instance = number;
        else if (!strcmp(key, "ci"))
            process.compute_instance = number;
        else if (!strcmp(key, "name"))
            process.name = value;
        else
            return 0;
    }
    struct process *grown = realloc(gpu->processes, (size_t)(gpu->process_count + 1) * sizeof *grown);
    if (!grown)
        return 0;
    gpu->processes = grown;
    gpu->processes[gpu->process_count++] = process;
    return 1;
}

static int read_fault(struct world *world, char *text)
{
    char *key, *value;
    struct fault fault = {.kind = FAULT_KINDS, .gpu = -1};
    while ((key = next_pair(&text, &value))) {
        if (!strcmp(key, "kind")) {
            for (int i = 0; i < FAULT_KINDS; i++)
                if (!strcmp(fault_names[i], value))
                    fault.kind = (enum fault_kind)i;
        } else if (!strcmp(key, "gpu"))
            fault.gpu = atoi(value);
        else if (!strcmp(key, "function"))
            fault.function = value;
        else if (!strcmp(key, "value"))
            fault.value = strtoll(value, NULL, 10);
        else
            return 0;
    }
    if (fault.kind == FAULT_KINDS || world->fault_count == MAX_FAULTS)
        return 0;
    world->faults[world->fault_count++] = fault;
    return 1;
}

static int read_event(struct world *world, const char *text)
{
    unsigned long long sequence, type, data;
    struct event event = {.gpu_instance = UINT_MAX, .compute_instance = UINT_MAX};
    if (world->event_count == MAX_EVENTS || sscanf(text, "%llu %d %llu %llu", &sequence, &event.gpu, &type, &data) != 4)
        return 0;
    event.sequence = sequence;
    event.type = type;
    event.data = data;
    world->events[world->event_count++] = event;
    return 1;
}

static int read_driver(struct world *world, const char *key, char *value)
{
    if (!strcmp(key, "generation"))
        world->generation = strtoull(value, NULL, 10);
    else if (!strcmp(key, "epoch"))
        world->epoch = strtoull(value, NULL, 10);
    else if (!strcmp(key, "driver_version"))
        world->driver_version = value;
    else if (!strcmp(key, "nvml_version"))
        world->nvml_version = value;
    else if (!strcmp(key, "cuda_version"))
        world->cuda_version = atoi(value);
    else if (!strcmp(key, "init"))
        return (world->init_code = world_code(value)) >= 0;
    else if (!strcmp(key, "fault"))
        return read_fault(world, value);
    else if (!strcmp(key, "event"))
        return read_event(world, value);
    else
        return 0;
    return 1;
}

/* "[gpu *]" (defaults of all that follow), "[gpu 0]" or "[mig 0 1]"; each in ascending order. */
static struct entity *read_section(struct world *world, struct entity *defaults, const char *line)
{
    int gpu, slice;
    if (!strcmp(line, "[gpu *]"))
        return defaults;
    if (sscanf(line, "[gpu %d]", &gpu) == 1 && gpu == world->gpu_count && gpu < MAX_GPUS) {
        struct gpu *added = calloc(1, sizeof *added);
        if (!added)
            return NULL;
        added->self = *defaults;
        world->gpus[world->gpu_count++] = added;
        return &added->self;
    }
    if (sscanf(line, "[mig %d %d]", &gpu, &slice) == 2 && gpu >= 0 && gpu < world->gpu_count && slice < MAX_SLICES &&
        slice == world->gpus[gpu]->slice_count) {
        struct entity *added = calloc(1, sizeof *added);
        if (!added)
            return NULL;
        for (int i = 0; i < FIELD_COUNT; i++)
            added->values[i].code = NVML_ERROR_NOT_SUPPORTED;
        return world->gpus[gpu]->slices[world->gpus[gpu]->slice_count++] = added;
    }
    return NULL;
}

static void parse(struct world *world)
{
    struct entity defaults, *entity = NULL;
    int last = 0, line_number = 0;
    for (int i = 0; i < FIELD_COUNT; i++)
        defaults.values[i].code = NVML_ERROR_NOT_SUPPORTED;
    for (char *next = world->text, *line; (line = strsep(&next, "\n"));) {
        int good;
        line_number++;
        line = trim(line);
        char *equals = strchr(line, '=');
        if (!*line || *line == '#')
            continue;
        if (*line == '[')
            good = (entity = read_section(world, &defaults, line)) != NULL;
        else if (!equals)
            good = 0;
        else {
            *equals = 0;
            char *key = trim(line), *value = trim(equals + 1);
            int field;
            if (!entity)
                good = read_driver(world, key, value);
            else if (!strcmp(key, "process"))
                good = world->gpu_count && read_process(world->gpus[world->gpu_count - 1], value);
            else
                good = (field = field_of(key, &last)) >= 0 &&
                       read_value(&entity->values[field], fields[field].kind, value);
        }
        if (!good)
            fprintf(stderr, "fake_nvml: %s:%d: cannot read this line\n", control_path, line_number);
    }
}

static char *read_file(const char *path)
{
    struct stat status;
    char *text = NULL;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file >= 0 && fstat(file, &status) == 0 && (text = malloc((size_t)status.st_size + 1))) {
        ssize_t length = read(file, text, (size_t)status.st_size);
        text[length > 0 ? length : 0] = 0;
    }
    if (file >= 0)
        close(file);
    return text;
}

static void bury(struct world *world)
{
    struct world **grave = &graveyard[buried++ % (sizeof graveyard / sizeof *graveyard)];
    if (*grave) {
        for (int i = 0; i < (*grave)->gpu_count; i++) {
            for (int j = 0; j < (*grave)->gpus[i]->slice_count; j++)
                free((*grave)->gpus[i]->slices[j]);
            free((*grave)->gpus[i]->processes);
            free((*grave)->gpus[i]);
        }
        free((*grave)->text);
        free(*grave);
    }
    *grave = world;
}

/* Map a file shared, or NULL. */
static void *map(const char *path, size_t size, int writable)
{
    int file = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    struct stat status;
    void *memory = MAP_FAILED;
    if (file < 0)
        return NULL;
    if (fstat(file, &status) == 0 && (size_t)status.st_size >= size)
        memory = mmap(NULL, size, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, file, 0);
    close(file);
    return memory == MAP_FAILED ? NULL : memory;
}

/* Without FAKE_NVML_CONTROL: the file default.profile beside this library. */
static void find_files(void)
{
    char path[PATH_MAX + 16];
    Dl_info self;
    const char *control = getenv("FAKE_NVML_CONTROL"), *counts = getenv("FAKE_NVML_COUNTS");
    struct stat status;
    if (control)
        snprintf(control_path, sizeof control_path, "%s", control);
    else if (dladdr((void *)world_code, &self) && self.dli_fname && strrchr(self.dli_fname, '/'))
        snprintf(control_path, sizeof control_path, "%.*s/default.profile",
                 (int)(strrchr(self.dli_fname, '/') - self.dli_fname), self.dli_fname);
    snprintf(path, sizeof path, "%s.generation", control_path);
    const uint64_t *word = map(path, sizeof *word, 0);
    if (word)
        world_generation = word;
    if (counts && stat(counts, &status) == 0 && (counters = map(counts, (size_t)status.st_size, 1)))
        counter_count = (int)((size_t)status.st_size / sizeof *counters);
    if (!counters) {
        counters = own_counters;
        counter_count = sizeof own_counters / sizeof *own_counters;
    }
}

static void find_files_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_files);
}

const char *world_control_directory(void)
{
    static char directory[PATH_MAX];
    snprintf(directory, sizeof directory, "%s", control_path);
    char *slash = strrchr(directory, '/');
    if (slash)
        *slash = 0;
    return slash ? directory : ".";
}

/* Read the control file again. Without one: no driver. */
struct world *world_reload(void)
{
    find_files_once();
    pthread_mutex_lock(&lock);
    struct world *old = world_now;
    if (old && *world_generation <= old->generation) {
        pthread_mutex_unlock(&lock);
        return old;
    }
    struct world *world = calloc(1, sizeof *world);
    if (!world)
        abort();
    world->driver_version = world->nvml_version = "";
    if ((world->text = read_file(control_path)))
        parse(world);
    else
        world->init_code = NVML_ERROR_DRIVER_NOT_LOADED;
    __atomic_store_n(&world_now, world, __ATOMIC_RELEASE);
    if (old)
        bury(old);
    pthread_mutex_unlock(&lock);
    return world;
}

/* The slot of a function's name, claimed on first use. Several processes may claim at once. */
struct counter *world_counter(const char *function)
{
    static struct counter overflow;
    find_files_once();
    for (int i = 0; i < counter_count; i++) {
        struct counter *slot = &counters[i];
        uint64_t free_slot = 0;
        if (__atomic_compare_exchange_n(&slot->state, &free_slot, 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            snprintf(slot->name, sizeof slot->name, "%s", function);
            __atomic_store_n(&slot->state, 2, __ATOMIC_RELEASE);
            return slot;
        }
        for (int tries = 0; tries < 1000 && __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) == 1; tries++)
            usleep(10); /* another process is just naming it (or was killed at it) */
        if (!strcmp(slot->name, function))
            return slot;
    }
    return &overflow;
}
