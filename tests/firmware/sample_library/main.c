#include <stdio.h>

#include "model.h"

int main(void)
{
    model_run();
    printf("%d\n", model_output()[0]);
    return 0;
}
