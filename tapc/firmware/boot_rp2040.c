/* Second-stage boot loader of the RP2040: the boot ROM copies these 252 bytes to SRAM and jumps here.
 * It sets the flash interface up for plain serial reads (command 03h, which every flash chip knows) and starts
 * the image behind it. Registers: RP2040 datasheet, section 4.10 (SSI). No calls and no data: it runs anywhere.
 */
#include <stdint.h>

#define SSI(offset) (*(volatile uint32_t *)(0x18000000u + (offset)))
#define SSI_CTRLR0 SSI(0x00u)
#define SSI_CTRLR1 SSI(0x04u)
#define SSI_SSIENR SSI(0x08u)
#define SSI_BAUDR SSI(0x14u)
#define SSI_SPI_CTRLR0 SSI(0xF4u)

#define CTRLR0_DATA_32_BITS (31u << 16)
#define CTRLR0_EEPROM_READ (3u << 8)
#define SPI_CTRLR0_READ_03H (0x03u << 24)
#define SPI_CTRLR0_INSTRUCTION_8_BITS (2u << 8)
#define SPI_CTRLR0_ADDRESS_24_BITS (6u << 2)

#define CLOCK_DIVIDER 4u
#define VECTORS 0x10000100u
#define SCB_VTOR (*(volatile uint32_t *)0xE000ED08u)

void boot(void);
__attribute__((section(".boot"), used, noreturn)) void boot(void)
{
    SSI_SSIENR = 0;
    SSI_BAUDR = CLOCK_DIVIDER;
    SSI_CTRLR0 = CTRLR0_DATA_32_BITS | CTRLR0_EEPROM_READ;
    SSI_SPI_CTRLR0 = SPI_CTRLR0_READ_03H | SPI_CTRLR0_INSTRUCTION_8_BITS | SPI_CTRLR0_ADDRESS_24_BITS;
    SSI_CTRLR1 = 0;
    SSI_SSIENR = 1;

    SCB_VTOR = VECTORS;
    const volatile uint32_t *vectors = (const volatile uint32_t *)VECTORS;
    const uint32_t stack = vectors[0];
    const uint32_t entry = vectors[1];
    __asm__ volatile("msr msp, %0\n\tbx %1" : : "r"(stack), "r"(entry));
    __builtin_unreachable();
}
