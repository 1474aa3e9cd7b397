/* What `shoal pull` is asked for: a file here, an address, or a file of the hub. */
#ifndef SHOAL_STORE_SOURCE_H
#define SHOAL_STORE_SOURCE_H

#include "base/error.h"
#include "store/url.h"

#define SOURCE_HUB_ENDPOINT "https://huggingface.co"

enum source_kind { SOURCE_FILE, SOURCE_URL, SOURCE_HUB, SOURCE_KIND_COUNT };

/* Caller's struct; it owns nothing. */
struct source {
    enum source_kind kind;
    char from[URL_TEXT];        /* path or address of the named file */
    char name[STORE_NAME_TEXT]; /* what it is called in the models folder */
    char page[URL_TEXT];        /* hub: the repository's page, for people; else "" */
    int part, parts;            /* of a split model's name, from 1; 1 of 1 for others */
};

/* Reads SPEC: a path, http:// or https://, or hf:OWNER/REPO/[FOLDER/]FILE.gguf[@REVISION], which
 * is asked for at `endpoint` (SOURCE_HUB_ENDPOINT or a mirror). An address of the endpoint that
 * shows a file (/blob/) becomes the one that sends it (/resolve/). Pure. FAIL_ARG says which forms
 * there are. */
int source_parse(const char *spec, const char *endpoint, struct source *ret, struct error *e);

/* The source of part `part` (1..parts) of the same split model. FAIL_ARG if the address doesn't end
 * in the part's name. */
int source_part(const struct source *s, int part, struct source *ret, struct error *e);

#endif
