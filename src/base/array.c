/* Arrays that grow: see array.h. */
#include "base/array.h"

#include <stdint.h>
#include <stdlib.h>

#define FIRST_CAPACITY 16

void *array_grow(void *items, size_t *capacity, size_t need, size_t element, size_t limit)
{
    if (need <= *capacity && items)
        return items;
    size_t most = SIZE_MAX / (element ? element : 1);
    most = most < limit ? most : limit;
    if (need > most)
        return NULL;
    size_t n = *capacity > most / 2 ? most : *capacity * 2;
    n = n > FIRST_CAPACITY ? n : FIRST_CAPACITY < most ? FIRST_CAPACITY : most;
    n = n > need ? n : need;
    void *grown = realloc(items, n * element);
    if (grown)
        *capacity = n;
    return grown;
}
