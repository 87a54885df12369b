/* STM32H7: supply, PLL1 from the crystal, flash wait states, a USART; on boards that have them QSPI flash and SDRAM.
 *
 * Registers: RM0399 (H745/747) and RM0433 (H743), chapters FLASH, PWR, RCC, QUADSPI, FMC. The supply must be what the
 * board is wired for: PWR_CR3 takes one write after power-on. Voltage scale 1 allows 400 MHz, with the bus at 200 MHz.
 *
 * TAPC_SUPPLY: bits 2 to 0 of PWR_CR3, 4 for the step-down converter alone, 2 for the LDO; TAPC_HSE_HZ, TAPC_HSE_BYPASS;
 * TAPC_STEP_HZ: what the PLL multiplies, 4 to 8 MHz;
 * TAPC_USART, TAPC_UART_ENABLE, TAPC_UART_BIT, TAPC_GPIO, TAPC_TX, TAPC_RX, TAPC_AF; TAPC_QSPI, TAPC_SDRAM.
 */
#include "stm32_gpio.h"
#include "stm32_usart.h"

#define FLASH_ACR 0x52002000u
#define FLASH_200_MHZ 0x22u /* two wait states, programming delay 2 */
#define PWR_CSR1 0x58024804u
#define PWR_CR3 0x5802480Cu
#define PWR_D3CR 0x58024818u
#define VOS_READY (1u << 13)
#define RCC_CR 0x58024400u
#define RCC_CFGR 0x58024410u
#define RCC_D1CFGR 0x58024418u
#define RCC_D2CFGR 0x5802441Cu
#define RCC_D3CFGR 0x58024420u
#define RCC_PLLCKSELR 0x58024428u
#define RCC_PLLCFGR 0x5802442Cu
#define RCC_PLL1DIVR 0x58024430u
#define RCC_AHB3ENR 0x580244D4u
#define RCC_AHB4ENR 0x580244E0u
#define HSEON (1u << 16)
#define HSERDY (1u << 17)
#define HSEBYP (1u << 18)
#define PLL1ON (1u << 24)
#define PLL1RDY (1u << 25)
#define RESET_HZ 64000000u
#define BUS_HZ (TAPC_CPU_HZ / 4u)
#define BAUD(hz) (((hz) + 57600u) / 115200u)

static uint32_t raise_clock(void)
{
    tapc_change(PWR_CR3, 7u, TAPC_SUPPLY);
    (void)tapc_wait(PWR_CSR1, VOS_READY, VOS_READY);
    tapc_change(PWR_D3CR, 3u << 14, 3u << 14);
    if (!tapc_wait(PWR_D3CR, VOS_READY, VOS_READY)) {
        return RESET_HZ;
    }
#ifdef TAPC_HSE_BYPASS
    TAPC_REGISTER(RCC_CR) |= HSEBYP;
#endif
    TAPC_REGISTER(RCC_CR) |= HSEON;
    if (!tapc_wait(RCC_CR, HSERDY, HSERDY)) {
        return RESET_HZ;
    }
    tapc_change(RCC_PLLCKSELR, 0x3F3u, 2u | (TAPC_HSE_HZ / TAPC_STEP_HZ) << 4);
    tapc_change(RCC_PLLCFGR, 0xFu, 2u << 2 | 1u << 16); /* 4 to 8 MHz in, wide range, output P on */
    TAPC_REGISTER(RCC_PLL1DIVR) = (2u * TAPC_CPU_HZ / TAPC_STEP_HZ - 1u) | 1u << 9 | 1u << 16 | 1u << 24;
    TAPC_REGISTER(RCC_CR) |= PLL1ON;
    if (!tapc_wait(RCC_CR, PLL1RDY, PLL1RDY)) {
        return RESET_HZ;
    }
    TAPC_REGISTER(FLASH_ACR) = FLASH_200_MHZ;
    (void)tapc_wait(FLASH_ACR, 0xFu, FLASH_200_MHZ & 0xFu);
    TAPC_REGISTER(RCC_D1CFGR) = 4u << 4 | 8u; /* bus / 2, its peripherals / 2 */
    TAPC_REGISTER(RCC_D2CFGR) = 4u << 8 | 4u << 4;
    TAPC_REGISTER(RCC_D3CFGR) = 4u << 4;
    tapc_change(RCC_CFGR, 7u, 3u);
    return tapc_wait(RCC_CFGR, 7u << 3, 3u << 3) ? TAPC_CPU_HZ : RESET_HZ;
}

#if defined(TAPC_QSPI) || defined(TAPC_SDRAM)
/* Pins of a memory: port letter, pins as bits, their function. */
typedef struct {
    uint16_t port, function, pins;
} Pins;

static void set_pins(const Pins *pins, uint32_t count)
{
    TAPC_REGISTER(RCC_AHB4ENR) |= 0x7FFu;
    for (; count > 0; --count, ++pins) {
        for (uint32_t pin = 0; pin < 16; ++pin) {
            if (pins->pins >> pin & 1u) {
                tapc_pin(0x58020000u + 0x400u * (pins->port - 'A'), pin, pins->function, 3);
            }
        }
    }
}
#endif

#ifdef TAPC_QSPI
/* Two MT25QL512 in parallel, quad reads with 4-byte addresses, memory-mapped at 0x90000000. Pins: UM2411, table 17. */
#define QSPI_CR 0x52005000u
#define QSPI_DCR 0x52005004u
#define QSPI_SR 0x52005008u
#define QSPI_CCR 0x52005014u
#define QSPI_BUSY (1u << 5)
#define QSPI_TWO_CHIPS (1u << 24 | 1u << 6 | 1u << 4 | 1u << 3 | 1u) /* clock / 2, both, sampled half a cycle late */
#define QSPI_READ 0x0F283DECu /* ECh: address and data on four lines, 10 cycles between them, memory-mapped */

static void qspi_command(uint32_t command)
{
    TAPC_REGISTER(QSPI_CCR) = command;
    (void)tapc_wait(QSPI_SR, QSPI_BUSY, 0);
    for (volatile uint32_t i = 0; i < 10000; ++i) { /* a reset takes some microseconds */
    }
}

static void map_qspi(void)
{
    static const Pins pins[] = {{'B', 9, 1u << 2},  {'D', 9, 1u << 11},           {'F', 9, 1u << 6 | 1u << 7}, {'F', 10, 1u << 9},
                                {'G', 10, 1u << 6}, {'G', 9, 1u << 9 | 1u << 14}, {'H', 9, 1u << 2 | 1u << 3}};
    set_pins(pins, sizeof pins / sizeof *pins);
    TAPC_REGISTER(RCC_AHB3ENR) |= 1u << 14;
    (void)TAPC_REGISTER(RCC_AHB3ENR);
    TAPC_REGISTER(QSPI_DCR) = 26u << 16 | 2u << 8;
    TAPC_REGISTER(QSPI_CR) = QSPI_TWO_CHIPS;
    /* A debugger may have left them on four lines: reset enable and reset, that way and on one line. */
    qspi_command(0x366u);
    qspi_command(0x399u);
    qspi_command(0x166u);
    qspi_command(0x199u);
    TAPC_REGISTER(QSPI_CCR) = QSPI_READ;
}
#endif

#ifdef TAPC_SDRAM
/* An IS42S32800 of 32 MiB at 0xD0000000 (bank 2), 100 MHz, latency 3. Pins: UM2411, table 16; commands: RM0399 22.9. */
#define FMC_BCR1 0x52004000u
#define FMC_SDCR1 0x52004140u
#define FMC_SDCR2 0x52004144u
#define FMC_SDTR1 0x52004148u
#define FMC_SDTR2 0x5200414Cu
#define FMC_SDCMR 0x52004150u
#define FMC_SDRTR 0x52004154u
#define FMC_SDSR 0x52004158u
#define SDRAM_BANK_2 (1u << 3)
#define MPU_CTRL 0xE000ED94u
#define MPU_RNR 0xE000ED98u
#define MPU_RBAR 0xE000ED9Cu
#define MPU_RASR 0xE000EDA0u

static void sdram_command(uint32_t mode, uint32_t refreshes, uint32_t value)
{
    TAPC_REGISTER(FMC_SDCMR) = mode | SDRAM_BANK_2 | (refreshes - 1u) << 5 | value << 9;
    (void)tapc_wait(FMC_SDSR, 1u << 5, 0);
}

static void start_sdram(void)
{
    static const Pins pins[] = {{'D', 12, 0xC703}, {'E', 12, 0xFF83}, {'F', 12, 0xF83F},
                                {'G', 12, 0x8137}, {'H', 12, 0xFFE0}, {'I', 12, 0x06FF}};
    set_pins(pins, sizeof pins / sizeof *pins);
    TAPC_REGISTER(RCC_AHB3ENR) |= 1u << 12;
    (void)TAPC_REGISTER(RCC_AHB3ENR);
    /* Clock / 2, bursts; 9 columns, 12 rows, 32 bits, 4 banks, latency 3. The first bank's registers hold what both share. */
    TAPC_REGISTER(FMC_SDCR1) = 2u << 10 | 1u << 12;
    TAPC_REGISTER(FMC_SDCR2) = 1u | 1u << 2 | 2u << 4 | 1u << 6 | 3u << 7;
    TAPC_REGISTER(FMC_SDTR1) = 6u << 12 | 1u << 20;
    TAPC_REGISTER(FMC_SDTR2) = 1u | 6u << 4 | 3u << 8 | 1u << 16 | 1u << 24;
    TAPC_REGISTER(FMC_BCR1) |= 1u << 31;
    sdram_command(1, 1, 0); /* clock on */
    for (volatile uint32_t i = 0; i < 40000; ++i) { /* 100 us */
    }
    sdram_command(2, 1, 0);      /* precharge all */
    sdram_command(3, 8, 0);      /* refresh */
    sdram_command(4, 1, 0x230u); /* latency 3, single writes */
    TAPC_REGISTER(FMC_SDRTR) = 0x603u << 1;
    /* Device memory by default (Armv7-M, B3.1), where unaligned loads fault: make it normal, cached, not executable. */
    TAPC_REGISTER(MPU_RNR) = 0;
    TAPC_REGISTER(MPU_RBAR) = 0xD0000000u;
    TAPC_REGISTER(MPU_RASR) = 1u << 28 | 3u << 24 | 1u << 19 | 3u << 16 | 24u << 1 | 1u;
    TAPC_REGISTER(MPU_CTRL) = 5u;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}
#endif

uint32_t tapc_board_init(void)
{
    const uint32_t hertz = raise_clock();
#ifdef TAPC_QSPI
    map_qspi();
#endif
#ifdef TAPC_SDRAM
    start_sdram();
#endif
    TAPC_REGISTER(RCC_AHB4ENR) |= 1u << ((TAPC_GPIO >> 10) & 15u);
    TAPC_REGISTER(TAPC_UART_ENABLE) |= 1u << TAPC_UART_BIT;
    tapc_uart_pins(TAPC_GPIO, TAPC_TX, TAPC_RX, TAPC_AF);
    TAPC_REGISTER(USART_BRR) = hertz == TAPC_CPU_HZ ? BAUD(BUS_HZ) : BAUD(RESET_HZ);
    TAPC_REGISTER(USART_CR1) = USART_ON;
    return hertz;
}
