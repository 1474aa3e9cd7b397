/* The process environment: see env.h. */
#include "os/env.h"

#include <stdlib.h>

const char *env_get(const char *name, const char *missing)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : missing;
}
