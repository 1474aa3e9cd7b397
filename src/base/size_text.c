/* Numbers of bytes for people: see size_text.h. */
#include "base/size_text.h"

#include <stdio.h>

#include "base/attributes.h"

/* Divides until the number is below the base or the units end; returns the unit's index. */
static int scale(double *value, double base, int units)
{
    int unit = 0;
    while (*value >= base && unit < units - 1) {
        *value /= base;
        unit++;
    }
    return unit;
}

const char *size_text(uint64_t bytes, char ret[static SIZE_TEXT])
{
    static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB", "EB" };
    double value = (double)bytes;
    int unit = scale(&value, 1000, ARRAY_LEN(units));
    snprintf(ret, SIZE_TEXT, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return ret;
}

const char *size_text_binary(uint64_t bytes, char ret[static SIZE_TEXT])
{
    static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double value = (double)bytes;
    int unit = scale(&value, 1024, ARRAY_LEN(units));
    snprintf(ret, SIZE_TEXT, unit ? "%.2f %s" : "%.0f %s", value, units[unit]);
    return ret;
}
