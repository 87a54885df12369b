// Runs the bytes that are flashed to an RP2040: `node rp2040.cjs FOLDER-OF-RP2040JS firmware.bin`. Its UART0 is this process's
// standard input and output. It stands still while its firmware waits for a byte.
"use strict";

const fs = require("fs");
const { Simulator } = require(process.argv[2]);

const BOOT_BYTES = 256, BOOT_AT = 0x20041f00, SRAM_AT = 0x20000000; // datasheet, 2.8.1: where the ROM copies it
const UART_DR = 0, UART_FR = 0x18;
const SLICE = 200000; // instructions between two looks at the input
const NANOSECONDS = 1e9;
const WAITS = 64; // looks in a row at an empty UART, with nothing sent between: it waits for a byte
const BAUD = 115200, BAUD_SHARE = 0.02;

const { rp2040: chip, clock } = new Simulator();
const uart = chip.uart[0];
const waiting = []; // bytes that have come and did not fit the UART's FIFO
const sent = [];
let line = "";
let polls = 0, running = false, ended = false;

function fail(what) {
    fs.writeSync(2, `${what} at PC 0x${(chip.core.PC >>> 0).toString(16).padStart(8, "0")}\n`);
    process.exit(3);
}

function complain(component, message) {
    if (/invalid memory|not 32 bit aligned|unaligned|undefined/i.test(message)) {
        fail(`the firmware faulted: ${message}`);
    }
}

chip.logger = { debug() {}, info() {}, warn: complain, error: complain };

const read = uart.readUint32.bind(uart);
uart.readUint32 = (offset) => {
    if (offset === UART_DR) {
        polls = 0;
    } else if (offset === UART_FR && uart.rxFIFO.empty && waiting.length === 0) {
        ++polls;
    }
    return read(offset);
};

uart.onByte = (byte) => {
    polls = 0;
    if (Math.abs(uart.baudRate - BAUD) > BAUD * BAUD_SHARE) {
        fail(`by its registers the UART runs at ${uart.baudRate} baud`);
    }
    sent.push(byte);
    if (byte === 10) {
        const hertz = /^m-tapc-hz-\[(\d+)\]/.exec(line);
        if (hertz !== null && Number(hertz[1]) !== chip.clkSys) {
            fail(`the firmware says ${hertz[1]} Hz, its clock's registers ${chip.clkSys} Hz`);
        }
        line = "";
    } else {
        line += String.fromCharCode(byte);
    }
};

function flush() {
    if (sent.length > 0) {
        process.stdout.write(Buffer.from(sent.splice(0)));
    }
}

function run() {
    running = false;
    polls = 0;
    for (let i = 0; i < SLICE && polls < WAITS; ++i) {
        while (waiting.length > 0 && !uart.rxFIFO.full && uart.enabled) {
            uart.feedByte(waiting.shift());
        }
        const cycles = chip.core.waiting ? 1 : chip.core.executeInstruction();
        clock.tick((cycles * NANOSECONDS) / chip.clkSys);
    }
    flush();
    if (polls < WAITS) {
        go();
    } else if (ended) {
        process.exit(0);
    }
}

function go() {
    if (!running) {
        running = true;
        setImmediate(run);
    }
}

process.stdin.on("data", (data) => {
    waiting.push(...data);
    go();
});
process.stdin.on("end", () => {
    ended = true;
    go();
});

const image = fs.readFileSync(process.argv[3]);
chip.flash.set(image, 0);
chip.sram.set(image.subarray(0, BOOT_BYTES), BOOT_AT - SRAM_AT);
chip.core.PC = chip.core.SP = BOOT_AT;
chip.core.LR = 0;
go();
