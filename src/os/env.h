/* The process environment; the only place that reads it. */
#ifndef SHOAL_OS_ENV_H
#define SHOAL_OS_ENV_H

/* The value, or `missing` where the variable is unset or empty. Borrowed: the environment is not
 * changed after start. */
const char *env_get(const char *name, const char *missing);

#endif
