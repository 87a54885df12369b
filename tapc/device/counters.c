/* QEMU plugin: how often each translated block ran, and how many instructions had run at every mark.
 *
 * Arguments: out=FILE, mark=ADDRESS, resume=ADDRESS, marks=COUNT. The blocks at `mark` and `resume` are the two
 * ends of tapc_mark: the first COUNT passes of each append the number of instructions executed so far, in all other
 * blocks, to the file. At exit (address, instructions, executions) of every block follow.
 * All numbers are 64-bit, in the host's byte order: number of marks, marks, number of blocks, blocks.
 *
 * The prototypes are QEMU's plugin interface, whose header distributions do not package. Of its versions that matter
 * here version 1 (QEMU 4.2 to 8.2) adds to any counter in memory; version 2 (from QEMU 9.0 on, which refuses 1) to one
 * of a scoreboard alone. One file serves all: what the QEMU that loads it lacks is a weak symbol without an address.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
typedef void (*tb_trans_cb)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void (*tb_exec_cb)(unsigned int cpu, void *data);
typedef void (*atexit_cb)(qemu_plugin_id_t id, void *data);

enum { CALLBACK_NO_REGISTERS = 0, INLINE_ADD_U64 = 0 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, tb_trans_cb callback);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, tb_exec_cb callback, int flags, void *data);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int operation, void *counter,
                                                     uint64_t value) __attribute__((weak));
struct qemu_plugin_scoreboard;
typedef struct {
    struct qemu_plugin_scoreboard *score;
    size_t offset;
} qemu_plugin_u64;
extern struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t bytes) __attribute__((weak));
extern void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *score, unsigned int cpu) __attribute__((weak));
extern void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(struct qemu_plugin_tb *tb, int operation,
                                                              qemu_plugin_u64 counter, uint64_t value)
    __attribute__((weak));
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, atexit_cb callback, void *data);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv);

/* QEMU reads the version after the file is loaded. */
__attribute__((constructor)) static void choose_version(void)
{
    if (qemu_plugin_scoreboard_new) {
        qemu_plugin_version = 2;
    }
}

/* One per translation: a block that is translated again gets a second record, and the reader adds them up. */
struct block {
    struct block *next;
    uint64_t address, instructions;
    const uint64_t *executions;
};

static struct block *blocks;
static uint64_t mark_address, resume_address, mark_limit, mark_count;
static uint64_t *marks;
static char *out_path;

static uint64_t executed(void)
{
    uint64_t total = 0;
    for (const struct block *block = blocks; block; block = block->next) {
        if (block->address != mark_address && block->address != resume_address) {
            total += block->instructions * *block->executions;
        }
    }
    return total;
}

static void on_mark(unsigned int cpu, void *data)
{
    (void)cpu;
    (void)data;
    if (mark_count < mark_limit) {
        marks[mark_count++] = executed();
    }
}

/* Let a block count its executions; return the counter. The twin's code runs on processor 0 alone. */
static const uint64_t *counted(struct qemu_plugin_tb *tb)
{
    enum { ENTRIES = 512 };
    static size_t used = ENTRIES; /* of the latest scoreboard, or array of counters */
    static struct qemu_plugin_scoreboard *score;
    static uint64_t *counters;
    if (used == ENTRIES) {
        used = 0;
        if (qemu_plugin_scoreboard_new) {
            score = qemu_plugin_scoreboard_new(ENTRIES * sizeof *counters);
            counters = qemu_plugin_scoreboard_find(score, 0);
        } else {
            counters = calloc(ENTRIES, sizeof *counters);
        }
        if (!counters) {
            abort();
        }
    }
    if (score) {
        const qemu_plugin_u64 counter = {score, used * sizeof *counters};
        qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, INLINE_ADD_U64, counter, 1);
    } else {
        qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &counters[used], 1);
    }
    return &counters[used++];
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    struct block *block = calloc(1, sizeof *block);
    if (!block) {
        abort();
    }
    block->address = qemu_plugin_tb_vaddr(tb);
    block->instructions = qemu_plugin_tb_n_insns(tb);
    block->next = blocks;
    blocks = block;
    if (block->address == mark_address || block->address == resume_address) {
        qemu_plugin_register_vcpu_tb_exec_cb(tb, on_mark, CALLBACK_NO_REGISTERS, NULL);
    }
    block->executions = counted(tb);
}

static void put(FILE *file, uint64_t value)
{
    if (fwrite(&value, sizeof value, 1, file) != 1) {
        abort();
    }
}

static void on_exit_(qemu_plugin_id_t id, void *data)
{
    (void)id;
    (void)data;
    FILE *file = fopen(out_path, "wb");
    if (!file) {
        abort();
    }
    put(file, mark_count);
    for (uint64_t i = 0; i < mark_count; ++i) {
        put(file, marks[i]);
    }
    uint64_t count = 0;
    for (const struct block *block = blocks; block; block = block->next) {
        count += *block->executions != 0;
    }
    put(file, count);
    for (const struct block *block = blocks; block; block = block->next) {
        if (*block->executions) {
            put(file, block->address);
            put(file, block->instructions);
            put(file, *block->executions);
        }
    }
    if (fclose(file) != 0) {
        abort();
    }
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; ++i) {
        char *value = strchr(argv[i], '=');
        if (!value) {
            return -1;
        }
        ++value;
        if (strncmp(argv[i], "out=", 4) == 0) {
            out_path = strdup(value);
        } else if (strncmp(argv[i], "mark=", 5) == 0) {
            mark_address = strtoull(value, NULL, 0);
        } else if (strncmp(argv[i], "resume=", 7) == 0) {
            resume_address = strtoull(value, NULL, 0);
        } else if (strncmp(argv[i], "marks=", 6) == 0) {
            mark_limit = 2 * strtoull(value, NULL, 0);
        } else {
            return -1;
        }
    }
    marks = calloc(mark_limit ? mark_limit : 1, sizeof *marks);
    if (!out_path || !marks) {
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_atexit_cb(id, on_exit_, NULL);
    return 0;
}
