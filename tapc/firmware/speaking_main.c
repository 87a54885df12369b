/* Firmware's main: answers commands over the board's UART, 115200 8N1.
 *
 * Grammar and the commands name, profile, timestamp, db, infer, results and help: MLPerf Tiny (mlcommons/tiny,
 * benchmark/api). A command ends with '%', its words are parted by spaces; every answer ends with "m-ready". tapc's own
 * commands add what that protocol lacks: checksums, cycles, and exact output codes. No heap, no printf, no division.
 */
#include "support.h"
#include "tapc_network.h"

#ifdef TAPC_KEEP_INPUT
enum { KEEPS = 1 };
#else
enum { KEEPS = 0 };
#endif
enum { LINE = 80, ROW = 32, SHIFT = 24 };

#define SIZE(memory, bytes) +(bytes)
enum { INPUT_BYTES = 0 NETWORK_EACH_INPUT(SIZE), OUTPUT_BYTES = 0 NETWORK_EACH_OUTPUT(SIZE) NETWORK_EACH_STATE(SIZE) };

#define STACK_CANARY 0xA5A5A5A5u

/* Read from the ELF: what `tapc info` says. */
const struct {
    uint32_t steps, input_bytes, output_bytes;
    char board[32], digest[20];
} tapc_speaking_info __attribute__((used)) = {NETWORK_STEPS, INPUT_BYTES, OUTPUT_BYTES, TAPC_BOARD, NETWORK_DIGEST};

extern uint32_t tapc_stack_limit[], tapc_stack_top[];
extern const uint8_t tapc_image_start[], tapc_image_end[];

/* Nothing initializes these: they lie outside of what the start-up code clears. */
static char line[LINE + 1];
static uint32_t hertz, received, loaded, done; /* received: all of it where nothing is awaited */
static const char *counter;
#ifdef TAPC_KEEP_INPUT
static uint8_t kept[INPUT_BYTES];
#endif

static void put(const char *text)
{
    while (*text) {
        tapc_serial_put((uint8_t)*text++);
    }
}

static void put_end(void)
{
    put("]\r\n");
}

/* Quotient of n and d, bit by bit: the library's division would take more room than all that is here. */
static uint64_t divide(uint64_t n, uint32_t d, uint32_t *rest)
{
    uint64_t quotient = 0, left = 0;
    for (uint32_t bit = 0; bit < 64; ++bit) {
        left = left + left + (uint32_t)((uint32_t)(n >> 32) >> 31);
        n += n;
        quotient += quotient;
        if (left >= d) {
            left -= d;
            ++quotient;
        }
    }
    *rest = (uint32_t)left;
    return quotient;
}

static void put_number(uint64_t value, uint32_t least)
{
    char digits[21];
    uint32_t at = sizeof digits - 1, rest;
    digits[at] = 0;
    do {
        value = divide(value, 10, &rest);
        digits[--at] = (char)('0' + rest);
    } while (value != 0 || sizeof digits - 1 - at < least);
    put(digits + at);
}

static void put_hex(uint32_t value, uint32_t digits)
{
    while (digits-- > 0) {
        tapc_serial_put((uint8_t)"0123456789abcdef"[(value >> (4 * digits)) & 15]);
    }
}

static void put_label(const char *label)
{
    put("m-tapc-");
    put(label);
    put("-[");
}

static void put_field(const char *label, uint32_t value)
{
    put_label(label);
    put_number(value, 1);
    put_end();
}

static void put_text(const char *label, const char *value)
{
    put_label(label);
    put(value);
    put_end();
}

static void put_error(const char *what)
{
    put("e-[");
    put(what);
    put_end();
}

/* CRC-32 of ISO 3309, as zlib's. */
static uint32_t crc(uint32_t sum, const uint8_t *data, uint32_t bytes)
{
    sum = ~sum;
    while (bytes-- > 0) {
        sum ^= *data++;
        for (uint32_t bit = 0; bit < 8; ++bit) {
            sum = (sum >> 1) ^ (sum & 1 ? 0xEDB88320u : 0);
        }
    }
    return ~sum;
}

static void put_crc(const char *label, uint32_t sum)
{
    put_label(label);
    put_hex(sum, 8);
    put_end();
}

/* Where byte `index` of the inputs, one after the other, is loaded to. */
static uint8_t *input_byte(uint32_t index)
{
#ifdef TAPC_KEEP_INPUT
    return &kept[index];
#else
#define AT(memory, bytes) \
    if (index < (bytes)) { \
        return (uint8_t *)(memory) + index; \
    } \
    index -= (bytes);
    NETWORK_EACH_INPUT(AT)
    return 0;
#endif
}

/* Brings the loaded input to where the network reads it; 0 where there is none any more. */
static uint32_t fill(void)
{
    const uint32_t whole = loaded;
#ifdef TAPC_KEEP_INPUT
    const uint8_t *from = kept;
#define FILL(memory, bytes) \
    for (uint32_t i = 0; i < (bytes); ++i) { \
        ((volatile uint8_t *)(memory))[i] = *from++; \
    }
    NETWORK_EACH_INPUT(FILL)
#else
    loaded = 0; /* running overwrites it */
#endif
    return whole;
}

static uint32_t word_is(const char *word, const char *name)
{
    while (*word && *word == *name) {
        ++word;
        ++name;
    }
    return *word == *name;
}

/* Cuts the next word off the line; empty where there is none. */
static char *next_word(char **rest)
{
    char *word = *rest;
    while (*word == ' ') {
        ++word;
    }
    char *end = word;
    while (*end && *end != ' ') {
        ++end;
    }
    *rest = *end ? end + 1 : end;
    *end = 0;
    return word;
}

/* A decimal number, or `otherwise` where the word is none; at most 2^31 - 1. */
static uint32_t number(const char *word, uint32_t otherwise)
{
    uint32_t value = 0;
    if (!*word) {
        return otherwise;
    }
    for (; *word; ++word) {
        const uint32_t digit = (uint32_t)*word - '0';
        if (digit > 9 || value > (INT32_MAX - 9) / 10) {
            return UINT32_MAX;
        }
        value = value * 10 + digit;
    }
    return value;
}

/* Runs the network on the loaded input; a byte that comes meanwhile stops it, whatever the count. */
static uint32_t repeat(uint32_t count, uint32_t told)
{
    while (count-- > 0) {
        fill();
        const uint64_t start = tapc_cycles();
        network_run();
        const uint64_t cycles = tapc_cycles() - start;
        if (told) {
            put_label("cycles");
            put_number(cycles, 1);
            put_end();
        }
        done = 1;
        if (tapc_serial_get() >= 0) {
            put_error("Stopped");
            return 0;
        }
    }
    return 1;
}

static uint32_t hex_digit(char c)
{
    const uint32_t digit = (uint32_t)c - '0', letter = ((uint32_t)c | 0x20u) - 'a';
    return digit < 10 ? digit : letter < 6 ? letter + 10 : 16;
}

static void timestamp(void)
{
    uint32_t rest, kilohertz = (uint32_t)divide(hertz, 1000, &rest);
    put("m-lap-us-");
    put_number(divide(tapc_cycles() * 1000, kilohertz, &rest), 1);
    put("\r\n");
}

static const char *between;

static void put_result(int32_t difference, uint64_t factor)
{
    uint64_t product = 0;
    uint32_t rest, times = (uint32_t)(difference < 0 ? -difference : difference);
    while (times-- > 0) { /* at most 255: a product of 64 bits is a function of the library on small cores */
        product += factor;
    }
    const uint64_t rounded = (product + (1u << (SHIFT - 1))) >> SHIFT;
    const uint64_t whole = divide(rounded, 1000, &rest);
    put(between);
    between = ",";
    if (difference < 0 && rounded != 0) {
        put("-");
    }
    put_number(whole, 1);
    put(".");
    put_number(rest, 3);
}

static void results(void)
{
    between = "";
    put("m-results-[");
    if (done) {
#define RESULTS(memory, bytes, scale, zero) \
    for (uint32_t i = 0; i < (bytes); ++i) { \
        put_result(((const int8_t *)(memory))[i] - (zero), (uint64_t)((double)(scale) * 1000.0 * (1 << SHIFT) + 0.5)); \
    }
        NETWORK_EACH_RESULT(RESULTS)
    }
    put_end();
}

static void infer(char *rest)
{
    const uint32_t count = number(next_word(&rest), 1);
    const uint32_t warmups = number(next_word(&rest), 10);
    if (count == 0 || count > INT32_MAX || warmups > INT32_MAX) {
        put_error("infer N [W]");
        return;
    }
    if (!loaded) {
        put_error("No input");
        return;
    }
#ifndef TAPC_KEEP_INPUT
    if (count + warmups > 1) {
        put_error("infer 1 0: no copy");
        return;
    }
#endif
    put("m-warmup-start-");
    put_number(warmups, 1);
    put("\r\n");
    if (!repeat(warmups, 0)) {
        return;
    }
    put("m-warmup-done\r\nm-infer-start-");
    put_number(count, 1);
    put("\r\n");
    timestamp();
    if (!repeat(count, 0)) {
        return;
    }
    timestamp();
    put("m-infer-done\r\n");
    results();
}

static void buffer(char *rest)
{
    const char *word = next_word(&rest);
    if (word_is(word, "load")) {
        if (number(next_word(&rest), 0) != INPUT_BYTES) {
            put_error("Number of bytes");
            return;
        }
        received = loaded = done = 0;
        put("m-[Expecting ");
        put_number(INPUT_BYTES, 1);
        put(" bytes]\r\n");
        return;
    }
    if (word_is(word, "print")) {
        for (uint32_t i = 0; i < received; ++i) {
            put(i % 8 == 0 ? "m-buffer-" : "-");
            put_hex(*input_byte(i), 2);
            if (i % 8 == 7 || i + 1 == received) {
                put("\r\n");
            }
        }
        return;
    }
    uint32_t digits = 0;
    while (word[digits]) {
        if (hex_digit(word[digits]) > 15) {
            put_error("Hex digits");
            return;
        }
        ++digits;
    }
    if (digits == 0 || digits % 2 != 0) {
        put_error("Hex digits");
        return;
    }
    if (digits / 2 > INPUT_BYTES - received) {
        put_error("Number of bytes");
        return;
    }
    for (uint32_t i = 0; i < digits; i += 2) {
        *input_byte(received++) = (uint8_t)(hex_digit(word[i]) << 4 | hex_digit(word[i + 1]));
    }
    if (received == INPUT_BYTES) {
        uint32_t sum = 0;
        for (uint32_t i = 0; i < INPUT_BYTES; ++i) {
            sum = crc(sum, input_byte(i), 1);
        }
        loaded = 1;
        put("m-load-done\r\n");
        put_crc("crc-input", sum);
    }
}

static void info(void)
{
    put_field("protocol", 2);
    put_text("board", tapc_speaking_info.board);
    put_text("model", NETWORK_NAME);
    put_text("digest", tapc_speaking_info.digest);
    put_field("hz", hertz);
    put_field("rated-hz", TAPC_CPU_HZ);
    put_text("counter", counter);
    put_field("input-bytes", INPUT_BYTES);
    put_field("output-bytes", OUTPUT_BYTES);
    put_field("steps", NETWORK_STEPS);
    put_field("keeps-input", KEEPS);
}

static void checksums(void)
{
    put_crc("crc-image", crc(0, tapc_image_start, (uint32_t)(tapc_image_end - tapc_image_start)));
#define REGION(name) \
    { \
        extern const uint8_t tapc_##name##_start[], tapc_##name##_end[]; \
        put_crc("crc-" #name, crc(0, tapc_##name##_start, (uint32_t)(tapc_##name##_end - tapc_##name##_start))); \
    }
    NETWORK_EACH_REGION(REGION)
}

static uint32_t row;

static void put_row(const uint8_t *data, uint32_t bytes)
{
    while (bytes-- > 0) {
        if (row == 0) {
            put_label("output");
        }
        put_hex(*data++, 2);
        row = (row + 1) % ROW;
        if (row == 0) {
            put_end();
        }
    }
}

static void run(char *rest)
{
    uint32_t count = number(next_word(&rest), 1), sum = 0;
    if (count == 0 || count > INT32_MAX || !loaded) {
        put_error("No input");
        return;
    }
#ifndef TAPC_KEEP_INPUT
    count = 1;
#endif
    if (!repeat(count, 1)) {
        return;
    }
    row = 0;
#define OUTPUT(memory, bytes) \
    put_row((const uint8_t *)(memory), bytes); \
    sum = crc(sum, (const uint8_t *)(memory), bytes);
    NETWORK_EACH_OUTPUT(OUTPUT)
    NETWORK_EACH_STATE(OUTPUT)
    if (row != 0) {
        put_end();
    }
    put_crc("crc-output", sum);
    const volatile uint32_t *word = tapc_stack_limit;
    while (word < tapc_stack_top && *word == STACK_CANARY) {
        ++word;
    }
    put_field("stack", (uint32_t)((uintptr_t)tapc_stack_top - (uintptr_t)word));
}

static void layers(void)
{
    if (!loaded) {
        put_error("No input");
        return;
    }
    fill();
    for (int32_t step = 0; step < NETWORK_STEPS; ++step) {
        const uint64_t start = tapc_cycles();
        (void)network_step(step);
        const uint64_t cycles = tapc_cycles() - start;
        put_label("layer");
        put_number((uint32_t)step, 1);
        put(",");
        put_number(cycles, 1);
        put(",");
        put_hex(crc(0, network_arena + network_step_output[step].offset, network_step_output[step].bytes), 8);
        put_end();
    }
    done = 1;
}

static uint32_t own(char *rest)
{
    const char *word = next_word(&rest);
    if (word_is(word, "info")) {
        info();
    } else if (word_is(word, "crc")) {
        checksums();
    } else if (word_is(word, "run")) {
        run(rest);
    } else if (word_is(word, "layers")) {
        layers();
#ifdef NETWORK_KEEPS
    } else if (word_is(word, "reset")) {
        NETWORK_RESET();
#endif
    } else {
        return 0;
    }
    return 1;
}

static void obey(char *rest)
{
    const char *word = next_word(&rest);
    if (word_is(word, "name")) {
        put("m-name-dut-[tapc ");
        put(tapc_speaking_info.board);
        put_end();
    } else if (word_is(word, "profile")) {
        put("m-profile-[ULPMark for tinyML Firmware V0.0.1]\r\nm-model-[" NETWORK_NAME "]\r\n");
    } else if (word_is(word, "timestamp")) {
        timestamp();
    } else if (word_is(word, "db")) {
        buffer(rest);
    } else if (word_is(word, "infer")) {
        infer(rest);
    } else if (word_is(word, "results")) {
        results();
    } else if (word_is(word, "help")) {
        put("name profile timestamp db infer results tapc\r\n");
    } else if (!word_is(word, "tapc") || !own(rest)) {
        put_error("Command");
    }
}

void HardFault_Handler(void);
void HardFault_Handler(void)
{
    put("\r\ne-[Fault]\r\n");
    for (;;) {
    }
}

int main(void)
{
    uint32_t length = 0;
    received = INPUT_BYTES;
    loaded = done = 0;
    hertz = tapc_board_init();
    counter = tapc_cycles_init();
    NETWORK_RESET();
    put("m-init-done\r\nm-ready\r\n");
    for (;;) {
        const int32_t byte = tapc_serial_get();
        if (byte < 0) {
            /* Shorter than a byte on the line; an emulator that is asked all the time has no time to bring one. */
            for (volatile uint32_t i = 0; i < 64; ++i) {
            }
            continue;
        }
        if (byte == '%') {
            if (length > LINE) {
                put_error("Command");
            } else {
                line[length] = 0;
                obey(line);
            }
            length = 0;
            put("m-ready\r\n");
        } else if (byte >= ' ' && length <= LINE) { /* line ends are no part of a command */
            if (length < LINE) {
                line[length] = (char)byte;
            }
            ++length;
        }
    }
}
