/* The system's random numbers: see entropy.h. */
#include "os/entropy.h"

#include <sys/random.h>
#include <unistd.h>

#include "base/random.h"
#include "os/clock.h"

uint64_t entropy_u64(void)
{
    uint64_t number;
    if (getentropy(&number, sizeof(number)) == 0)
        return number;
    return random_mix(clock_now_ns() ^ (uintptr_t)&number);
}
