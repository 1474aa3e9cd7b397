/* Arrays that grow, with a maximum from birth. */
#ifndef SHOAL_BASE_ARRAY_H
#define SHOAL_BASE_ARRAY_H

#include <stddef.h>

/* Makes room for `need` elements of `element` bytes (doubling, so that adding one by one stays
 * linear) and returns where they are now: items itself where there is room already, with *capacity
 * adjusted where not. items is NULL with a capacity of 0, or came from here; free() it. NULL beyond
 * `limit` elements or without memory: items and *capacity are then as before. */
void *array_grow(void *items, size_t *capacity, size_t need, size_t element, size_t limit);

#endif
