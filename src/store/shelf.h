/* The models folder: which models lie in it, and taking one away. */
#ifndef SHOAL_STORE_SHELF_H
#define SHOAL_STORE_SHELF_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define SHELF_NAME 256 /* the longest name of a file, NUL included (Linux, macOS) */
#define SHELF_PATH 1024
#define SHELF_MAX 1024 /* models of one folder; more are not listed */

/* One model: a file, or the parts of a split one. */
struct shelf_model {
    char name[SHELF_NAME]; /* as the folder has it, without ending and part: may hold any bytes */
    char path[SHELF_PATH]; /* of the file, or of the first part that is there */
    uint64_t bytes;        /* of all that is there */
    int64_t modified_s;    /* of the newest file, seconds since 1970 */
    int files, parts;      /* that are there, and that there should be */
    bool unfinished;       /* a download that waits for its rest (NAME.gguf.part) */
};

/* Whether the model can be used: all parts are there and come to an end. */
bool shelf_is_whole(const struct shelf_model *m);

/* All models, by name; a folder that does not exist has none. The caller frees *ret by free().
 * FAIL_NOMEM, FAIL_AUTH, FAIL_IO. */
int shelf_list(const char *folder, struct shelf_model **ret, int *n, struct error *e);

/* The one that somebody calls so (base/model_name.h). FAIL_NOT_FOUND names those that come near. */
int shelf_find(const char *folder, const char *name, struct shelf_model *ret, struct error *e);

/* Removes the model's files: all parts, and what an unfinished download left. FAIL_AUTH, FAIL_IO
 * when one of them is still there; the others are gone then. */
int shelf_remove(const char *folder, const struct shelf_model *m, struct error *e);

#endif
