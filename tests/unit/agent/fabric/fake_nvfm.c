/* SPDX-License-Identifier: Apache-2.0
 *
 * A stand-in for libnvfm.so: a Fabric Manager that is a file of lines.
 *
 *   serial N            a connection of an older serial is not valid
 *   away N              nothing can be connected
 *   waits N             it waits for the list of activated partitions
 *   partition ID ACTIVE MODULE,... [BUS_ID,...]
 *   fail FUNCTION CODE COUNT    the next COUNT calls answer CODE
 *   delay FUNCTION MILLISECONDS
 *   old 1               the library knows version 1 of connections only
 *
 * The file is the address where that is a path, else $FAKE_NVFM. Facts are
 * those that nova_gpu_filter/agent/fabric names with their sources.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { SUCCESS = 0, BADPARAM = -1, GENERIC = -2, UNINITIALIZED = -4,
       MISMATCH = -6, IN_USE = -7, NOT_CONFIGURED = -8, NO_CONNECTION = -9 };
enum { GPUS = 16, MOST = 64, LINES = 160, WIDTH = 512 };

struct connect { unsigned version; char address[256];
                 unsigned timeout, is_unix; int kind; };
struct gpu { unsigned physical; char uuid[80], bus[32];
             unsigned available, most, rate; };
struct partition { unsigned id, active, count; struct gpu gpus[GPUS]; };
struct list { unsigned version, count, most; struct partition all[MOST]; };
struct activated { unsigned version, count, ids[MOST]; };
struct device { unsigned domain, bus, device, function; };

struct handle { char path[256]; int serial; };

static char lines[LINES][WIDTH];
static int count, file = -1, initialized;

static int open_state(const char *path)
{
    file = open(path, O_RDWR);
    if (file < 0)
        return 0;
    flock(file, LOCK_EX);
    FILE *stream = fdopen(dup(file), "r");
    for (count = 0; count < LINES && fgets(lines[count], WIDTH, stream);)
        count++;
    fclose(stream);
    return 1;
}

static void close_state(void)
{
    if (ftruncate(file, 0) == 0) {
        FILE *stream = fdopen(dup(file), "w");
        fseek(stream, 0, SEEK_SET);
        for (int i = 0; i < count; i++)
            fputs(lines[i], stream);
        fclose(stream);
    }
    close(file);
    file = -1;
}

static int number_of(const char *word)
{
    int value = 0;
    char format[64];
    snprintf(format, sizeof format, "%s %%d", word);
    for (int i = 0; i < count; i++)
        sscanf(lines[i], format, &value);
    return value;
}

/* Delay, and fail, as the file says. */
static int injected(const char *function)
{
    char name[64];
    int code, left, delay;
    for (int i = 0; i < count; i++) {
        if (sscanf(lines[i], "delay %63s %d", name, &delay) == 2
            && !strcmp(name, function))
            usleep(delay * 1000);
        if (sscanf(lines[i], "fail %63s %d %d", name, &code, &left) == 3
            && !strcmp(name, function) && left > 0) {
            snprintf(lines[i], WIDTH, "fail %s %d %d\n", name, code, left - 1);
            return code;
        }
    }
    return SUCCESS;
}

/* Open the state for a call; what is not SUCCESS closes it again. */
static int begin(struct handle *handle, const char *function)
{
    if (!initialized)
        return UNINITIALIZED;
    if (!handle)
        return BADPARAM;
    if (!open_state(handle->path))
        return NO_CONNECTION;
    int code = injected(function);
    if (code == SUCCESS
        && (number_of("away") || number_of("serial") != handle->serial))
        code = NO_CONNECTION;
    if (code != SUCCESS)
        close_state();
    return code;
}

static int end(int code)
{
    close_state();
    return code;
}

static int read_partition(const char *line, struct partition *into)
{
    char modules[128] = "", buses[400] = "", *rest;
    memset(into, 0, sizeof *into);
    if (sscanf(line, "partition %u %u %127s %399s", &into->id, &into->active,
               modules, buses) < 3)
        return 0;
    for (char *one = strtok_r(modules, ",", &rest); one;
         one = strtok_r(NULL, ",", &rest))
        into->gpus[into->count++].physical = atoi(one);
    unsigned i = 0;
    for (char *one = strtok_r(buses, ",", &rest); one && i < into->count;
         one = strtok_r(NULL, ",", &rest), i++)
        snprintf(into->gpus[i].bus, 32, "%s", one);
    return 1;
}

static void set_active(int line, int active)
{
    unsigned id, old;
    char rest[WIDTH];
    sscanf(lines[line], "partition %u %u %511[^\n]", &id, &old, rest);
    snprintf(lines[line], WIDTH, "partition %u %d %.480s\n", id, active, rest);
}

static int share(const struct partition *a, const struct partition *b)
{
    for (unsigned i = 0; i < a->count; i++)
        for (unsigned j = 0; j < b->count; j++)
            if (a->gpus[i].physical == b->gpus[j].physical)
                return 1;
    return 0;
}

int fmLibInit(void)
{
    if (initialized)
        return IN_USE;
    initialized = 1;
    return SUCCESS;
}

int fmLibShutdown(void)
{
    initialized = 0;
    return SUCCESS;
}

int fmConnect(struct connect *wanted, struct handle **handle)
{
    unsigned size = wanted->version & 0xffffff, number = wanted->version >> 24;
    unsigned v1 = sizeof *wanted - sizeof wanted->kind;
    int is_unix = number == 2 ? wanted->kind == 2 : wanted->is_unix != 0;
    const char *path = is_unix ? wanted->address : getenv("FAKE_NVFM");
    if (!initialized)
        return UNINITIALIZED;
    if (!path || !open_state(path))
        return NO_CONNECTION;
    int code = injected("fmConnect");
    if (code != SUCCESS)
        return end(code);
    if (!(number == 1 && size == v1)
        && !(number == 2 && size == sizeof *wanted && !number_of("old")))
        return end(MISMATCH);
    if (number_of("away"))
        return end(NO_CONNECTION);
    *handle = calloc(1, sizeof **handle);
    snprintf((*handle)->path, 256, "%s", path);
    (*handle)->serial = number_of("serial");
    return end(SUCCESS);
}

int fmDisconnect(struct handle *handle)
{
    free(handle);
    return SUCCESS;
}

int fmGetSupportedFabricPartitions(struct handle *handle, struct list *list)
{
    int code = begin(handle, "fmGetSupportedFabricPartitions");
    if (code != SUCCESS)
        return code;
    if (list->version != (sizeof *list | 1u << 24))
        return end(MISMATCH);
    list->count = 0;
    list->most = MOST;
    for (int i = 0; i < count; i++)
        if (read_partition(lines[i], &list->all[list->count]))
            list->count++;
    return end(SUCCESS);
}

static int change(struct handle *handle, const char *function, unsigned id,
                  int active, unsigned vfs)
{
    struct partition mine, other;
    int line = -1, code = begin(handle, function);
    if (code != SUCCESS)
        return code;
    if (number_of("waits"))
        return end(NOT_CONFIGURED);
    for (int i = 0; i < count && line < 0; i++)
        if (read_partition(lines[i], &mine) && mine.id == id)
            line = i;
    if (line < 0 || (vfs && vfs != mine.count))
        return end(BADPARAM);
    if (!active && !mine.active)
        return end(UNINITIALIZED);
    for (int i = 0; active && i < count; i++)
        if (read_partition(lines[i], &other) && other.active
            && share(&mine, &other))
            return end(IN_USE);
    set_active(line, active);
    return end(SUCCESS);
}

int fmActivateFabricPartition(struct handle *handle, unsigned id)
{
    return change(handle, "fmActivateFabricPartition", id, 1, 0);
}

int fmActivateFabricPartitionWithVFs(struct handle *handle, unsigned id,
                                     struct device *vfs, unsigned n)
{
    int code = change(handle, "fmActivateFabricPartitionWithVFs", id, 1, n);
    if (code == SUCCESS && open_state(handle->path)) {
        for (unsigned i = 0; i < n && count < LINES; i++)
            snprintf(lines[count++], WIDTH, "vf %u %04x:%02x:%02x.%x\n", id,
                     vfs[i].domain, vfs[i].bus, vfs[i].device,
                     vfs[i].function);
        close_state();
    }
    return code;
}

int fmDeactivateFabricPartition(struct handle *handle, unsigned id)
{
    return change(handle, "fmDeactivateFabricPartition", id, 0, 0);
}

int fmSetActivatedFabricPartitions(struct handle *handle,
                                   struct activated *list)
{
    struct partition one;
    int code = begin(handle, "fmSetActivatedFabricPartitions");
    if (code != SUCCESS)
        return code;
    if (list->version != (sizeof *list | 1u << 24))
        return end(MISMATCH);
    if (!number_of("waits"))
        return end(GENERIC);
    for (int i = 0; i < count; i++) {
        if (read_partition(lines[i], &one))
            for (unsigned j = 0; j < list->count; j++)
                if (list->ids[j] == one.id)
                    set_active(i, 1);
        if (!strncmp(lines[i], "waits ", 6))
            snprintf(lines[i], WIDTH, "waits 0\n");
    }
    return end(SUCCESS);
}
