/* What is done with each key that changes a model's arithmetic. */
#ifndef SHOAL_MODEL_KNOWN_KEYS_H
#define SHOAL_MODEL_KNOWN_KEYS_H

#include "model/keys.h"

enum key_use { KEY_READ, KEY_READ_WITH_YARN, KEY_NEUTRAL, KEY_AT_MOST, KEY_HARMLESS };

struct known_key {
    const char *families; /* "": all; else names with a blank around each */
    const char *suffix;
    enum key_use use;
    int neutral;
    const char *why;
};

/* All rows; count in *n. */
const struct known_key *known_keys(int *n);
/* The first row for this family, or NULL. */
const struct known_key *known_key_find(const char *family, const char *suffix);

/* Refuses a file with a key that would change the arithmetic and isn't honoured:
 * "gemma4 with experts is not supported yet". */
void refuse_unhonoured_keys(struct keys *k);

#endif
