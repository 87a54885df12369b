/* Firmware's main where nothing speaks: one inference on a zero input; a debugger finds the (first) result at tapc_output. */
#include <string.h>

#include "tapc_network.h"
#ifdef TAPC_SUPPORT
#include "support.h"
#endif

#define CLEAR(memory, bytes) memset(memory, 0, bytes);

const int8_t *volatile tapc_output;

int main(void)
{
#ifdef TAPC_SUPPORT
    (void)tapc_board_init();
#endif
    NETWORK_EACH_INPUT(CLEAR)
    NETWORK_RESET();
    network_run();
    tapc_output = NETWORK_FIRST_OUTPUT;
    for (;;) {
        __asm__ volatile("wfi");
    }
}
