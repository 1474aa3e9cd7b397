/* Names of models and of their files: one rule for command lines, the API and folders. Pure.
 *
 * A model is called as its file is without ".gguf", a split one as its parts are without
 * "-00001-of-00003". Whoever asks for one may say the ending, the part, and letters of another
 * case. */
#ifndef SHOAL_BASE_MODEL_NAME_H
#define SHOAL_BASE_MODEL_NAME_H

#include "base/bytes.h"
#include "base/error.h"

struct model_name {
    size_t stem;     /* bytes of the model's name, at the beginning */
    int part, parts; /* of a split model, from 1; 0: it is whole */
    bool is_file;    /* it ends in ".gguf", in letters of any case */
};

/* Takes a file's name (without folder) or what somebody calls a model apart. */
struct model_name model_name_parse(struct bytes text);

/* Name of part i (from 0) of a model of n parts that is opened by its first,
 * ".../x-00001-of-0000n.gguf"; the name itself where n is 1. FAIL_FORMAT when the first is not
 * called so, FAIL_LIMIT when the path does not fit. */
int model_name_part(const char *first, int i, int n, char *out, size_t size, struct error *e);

enum model_name_match { MODEL_NAME_OTHER, MODEL_NAME_ALIKE, MODEL_NAME_SAME };

/* Whether `asked` means the model called `id`: to the letter, or but for ending, part and case.
 * Of several models one that is the same goes before those that are alike. */
enum model_name_match model_name_compare(const char *id, const char *asked);

/* Whether `asked` can only be a path: there is a '/' in it. */
bool model_name_is_path(const char *asked);

#endif
