/* Processors without kernels of their own: no features. */
#include "os/cpu.h"

unsigned cpu_features(void)
{
    return 0;
}
