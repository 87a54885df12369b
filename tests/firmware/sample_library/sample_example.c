#include <stdio.h>

#include "sample.h"

int main(void)
{
    sample_run();
    printf("%d\n", sample_output()[0]);
    return 0;
}
