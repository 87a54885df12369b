/* Image definition of the RP2350: the boot ROM looks for it in the first 4 KiB of the flash, and then starts by the vector
 * table at the flash's first byte. RP2350 Datasheet, 5.9.5 (minimum viable image metadata): an executable, Arm, secure.
 */
#include <stdint.h>

__attribute__((section(".image_definition"), used)) const uint32_t tapc_image_definition[5] = {
    0xFFFFDED3u, /* start */
    0x10210142u, /* item: image type, one word */
    0x000001FFu, /* last item: one word of items */
    0x00000000u, /* no other block */
    0xAB123579u, /* end */
};
