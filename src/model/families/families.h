/* The families' readers, for the table in model/family.c alone: read_llama(), ... */
#ifndef SHOAL_MODEL_FAMILIES_H
#define SHOAL_MODEL_FAMILIES_H

struct reading;

#define FAMILY(name, eps, rope_base, window_rope_base) void read_##name(struct reading *r);
#include "model/families/families.def"
#undef FAMILY

#endif
