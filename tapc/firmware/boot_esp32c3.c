/* Direct boot of the ESP32-C3: where the flash begins with this word twice, its boot ROM maps the flash to 0x42000000 (code)
 * and 0x3C000000 (data), and starts what follows. ESP32-C3 Technical Reference Manual, Chip Boot Control.
 */
#define MAGIC "0xaedb041d"

__asm__(".section .boot, \"ax\", @progbits\n\t"
        ".word " MAGIC ", " MAGIC "\n\t"
        "tail Reset_Handler\n\t"
        ".previous");
