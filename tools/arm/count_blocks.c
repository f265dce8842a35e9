/* A plugin for qemu's user mode (API version 1, tested with qemu 7.2): counts how often each translated block is executed.
 *
 * A translated block is a run of instructions that ends with a branch, or where a page of memory ends. At exit the plugin writes
 * a line for each block:  <address> <executions> <symbol> <instruction word> ...  (hexadecimal, decimal, name or ?, hexadecimal).
 *
 *     gcc -O2 -shared -fPIC count_blocks.c -o count_blocks.so
 *     qemu-aarch64 -plugin ./count_blocks.so,out=FILE program
 *
 * qemu's header is in no package of Debian 12, so the few functions that are used are declared here. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb*));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb*, enum qemu_plugin_op, void*, uint64_t);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void*), void*);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb*);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb*);
extern struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb*, size_t);
extern const void* qemu_plugin_insn_data(const struct qemu_plugin_insn*);
extern const char* qemu_plugin_insn_symbol(const struct qemu_plugin_insn*);

EXPORT int qemu_plugin_version = 1;

struct block {
    uint64_t address, executions;
    size_t count;
    uint32_t* words;
    const char* symbol;
    struct block* next;
};

enum { buckets = 1 << 16 };
static struct block* table[buckets];
static const char* out_path = "blocks.txt";

static struct block* new_block(const struct qemu_plugin_tb* tb) {
    struct block* b = calloc(1, sizeof *b);
    b->address = qemu_plugin_tb_vaddr(tb);
    b->count = qemu_plugin_tb_n_insns(tb);
    b->words = calloc(b->count, sizeof *b->words);
    for (size_t i = 0; i < b->count; ++i) {
        memcpy(&b->words[i], qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), sizeof *b->words);
    }
    const char* symbol = qemu_plugin_insn_symbol(qemu_plugin_tb_get_insn(tb, 0));
    b->symbol = strdup(symbol != NULL && *symbol != '\0' ? symbol : "?");
    return b;
}

/* A block may be translated more than once; its executions add up. */
static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb* tb) {
    (void)id;
    const uint64_t address = qemu_plugin_tb_vaddr(tb);
    struct block** bucket = &table[(address >> 2) % buckets];
    struct block* b = *bucket;
    while (b != NULL && (b->address != address || b->count != qemu_plugin_tb_n_insns(tb))) b = b->next;
    if (b == NULL) {
        b = new_block(tb);
        b->next = *bucket;
        *bucket = b;
    }
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &b->executions, 1);
}

static void write_block(FILE* file, const struct block* b) {
    fprintf(file, "%llx %llu %s", (unsigned long long)b->address, (unsigned long long)b->executions, b->symbol);
    for (size_t i = 0; i < b->count; ++i) fprintf(file, " %08x", b->words[i]);
    fputc('\n', file);
}

static void at_exit(qemu_plugin_id_t id, void* unused) {
    (void)id, (void)unused;
    FILE* file = fopen(out_path, "w");
    if (file == NULL) {
        perror(out_path);
        return;
    }
    for (size_t i = 0; i < buckets; ++i) {
        for (const struct block* b = table[i]; b != NULL; b = b->next) {
            if (b->executions != 0) write_block(file, b);
        }
    }
    fclose(file);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t* info, int argc, char** argv) {
    (void)info;
    for (int i = 0; i < argc; ++i) {
        if (strncmp(argv[i], "out=", 4) == 0) out_path = strdup(argv[i] + 4);
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
    return 0;
}
