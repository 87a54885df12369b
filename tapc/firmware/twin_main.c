/* The twin's main: samples from input.bin through the model, results into files, all by semihosting. */
#include <stddef.h>
#include <stdint.h>

#include "tapc_network.h"
#if defined(__riscv)
#include "twin_riscv.h"
#else
#include "twin_arm.h"
#endif

enum { SYS_OPEN = 0x01, SYS_WRITE0 = 0x04, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT_EXTENDED = 0x20 };
enum { MODE_READ = 1, MODE_WRITE = 5 };
enum { EXIT_DONE = 0, EXIT_FILES = 2, EXIT_FAULT = 3 };

#define INPUT_MAGIC 0x49504154u /* "TAPI" */
#define STACK_CANARY 0xA5A5A5A5u

extern uint32_t tapc_stack_limit[], tapc_stack_top[];

#define SIZE(memory, bytes) +(bytes)
#define READ(memory, bytes) transfer(SYS_READ, input, memory, bytes);
#define WRITE(memory, bytes) transfer(SYS_WRITE, output, memory, bytes);

/* Read from the ELF by the runner: bytes of all inputs, and of all outputs and states. */
const struct {
    uint32_t steps, input_bytes, output_bytes;
} tapc_twin_info __attribute__((section(".harness_info"), used)) = {NETWORK_STEPS, NETWORK_EACH_INPUT(SIZE), NETWORK_EACH_OUTPUT(SIZE) NETWORK_EACH_STATE(SIZE)};

static struct {
    uint32_t magic, samples, layers, period; /* samples of a sequence, at the start of which states begin anew */
} header;

/* Static, and never on the stack: the harness must not deepen the stack that it measures. Nothing initializes it. */
static uint32_t arguments[3];
static uint32_t layers_file;
static uint32_t marks;   /* passed in this sample */
static uint32_t dumping; /* this sample's step outputs are wanted */

static void leave(uint32_t code)
{
    arguments[0] = 0x20026; /* ADP_Stopped_ApplicationExit */
    arguments[1] = code;
    semihost(SYS_EXIT_EXTENDED, (uint32_t)arguments);
}

static void fail(const char *message)
{
    semihost(SYS_WRITE0, (uint32_t)message);
    leave(EXIT_FILES);
}

static uint32_t open_file(const char *name, uint32_t length, uint32_t mode)
{
    arguments[0] = (uint32_t)name;
    arguments[1] = mode;
    arguments[2] = length;
    const uint32_t file = semihost(SYS_OPEN, (uint32_t)arguments);
    if (file == UINT32_MAX) {
        fail("cannot open a file\n");
    }
    return file;
}

static void transfer(uint32_t operation, uint32_t file, const volatile void *data, uint32_t bytes)
{
    arguments[0] = file;
    arguments[1] = (uint32_t)data;
    arguments[2] = bytes;
    if (semihost(operation, (uint32_t)arguments) != 0) { /* number of bytes that were not transferred */
        fail("short read or write\n");
    }
}

/* Counting stops where tapc_mark starts and goes on at tapc_mark_end, whatever is done between. */
void tapc_after_step(void);
__attribute__((used, noinline)) void tapc_after_step(void)
{
    if (dumping && marks != 0) {
        transfer(SYS_WRITE, layers_file, &network_step_output[marks - 1].bytes, sizeof(uint32_t));
        transfer(SYS_WRITE, layers_file, network_arena + network_step_output[marks - 1].offset, network_step_output[marks - 1].bytes);
    }
    ++marks;
}

static void write_number(const char *label, uint32_t value)
{
    static char digits[9];
    for (uint32_t i = 0; i < 8; ++i) {
        digits[i] = "0123456789abcdef"[(value >> (28 - 4 * i)) & 15];
    }
    digits[8] = 0;
    semihost(SYS_WRITE0, (uint32_t)label);
    semihost(SYS_WRITE0, (uint32_t)digits);
}

void fault_report(uint32_t address, uint32_t caller, uint32_t cause);
__attribute__((used, noinline)) void fault_report(uint32_t address, uint32_t caller, uint32_t cause)
{
    write_number("fault at 0x", address);
    write_number(", called from 0x", caller);
    write_number(", " FAULT_CAUSE " 0x", cause);
    leave(EXIT_FAULT);
}

static uint32_t stack_high_water(void)
{
    const uint32_t *word = tapc_stack_limit;
    while (word < tapc_stack_top && *word == STACK_CANARY) {
        ++word;
    }
    return (uint32_t)((uintptr_t)tapc_stack_top - (uintptr_t)word);
}

int main(void)
{
#if defined(TAPC_TRAP_UNALIGNED)
    trap_unaligned();
#endif
    const uint32_t input = open_file("input.bin", 9, MODE_READ);
    const uint32_t output = open_file("output.bin", 10, MODE_WRITE);
    layers_file = open_file("layers.bin", 10, MODE_WRITE);
    transfer(SYS_READ, input, &header, sizeof header);
    if (header.magic != INPUT_MAGIC) {
        fail("input.bin has another format\n");
    }
    for (uint32_t i = 0; i < NETWORK_ARENA_BYTES; ++i) {
        ((volatile uint8_t *)network_arena)[i] = 0xA5; /* hardware does not clear it either */
    }
    uint32_t left = 0;
    for (uint32_t sample = 0; sample < header.samples; ++sample) {
        if (left == 0) {
            NETWORK_RESET();
            left = header.period;
        }
        --left;
        NETWORK_EACH_INPUT(READ)
        marks = 0;
        dumping = sample < header.layers;
        network_run();
        NETWORK_EACH_OUTPUT(WRITE)
        NETWORK_EACH_STATE(WRITE)
    }
    static uint32_t stack[2];
    stack[0] = stack_high_water();
    stack[1] = (uint32_t)((uintptr_t)tapc_stack_top - (uintptr_t)tapc_stack_limit);
    transfer(SYS_WRITE, open_file("stack.bin", 9, MODE_WRITE), stack, sizeof stack);
    leave(EXIT_DONE);
    return 0;
}
