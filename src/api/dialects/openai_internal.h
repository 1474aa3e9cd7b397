/* Shared by the files that read OpenAI's bodies. */
#ifndef SHOAL_API_DIALECTS_OPENAI_INTERNAL_H
#define SHOAL_API_DIALECTS_OPENAI_INTERNAL_H

#include "api/dialects/openai_parse.h"

/* One body that is being read. */
struct openai_request {
    enum openai_endpoint endpoint;
    struct ask ask;
};

/* "a string" and so on. */
const char *openai_type_name(const json_t *value);

/* "Invalid type for 'param': expected ..., but got ... instead." Returns -1. */
int openai_type_problem(struct api_problem *p, const char *param, const char *expected,
                        const json_t *got);

/* A field; NULL when it is absent or null, which OpenAI treats alike. Borrowed. */
json_t *openai_field(const json_t *object, const char *name);

/* An optional boolean; *ret stays when it is absent. */
int openai_bool(const json_t *object, const char *name, bool *ret, struct api_problem *p);

/* Refuses fields that are not there yet. */
int openai_check_unsupported(enum openai_endpoint endpoint, const json_t *root,
                             struct api_problem *p);

/* Checks messages and puts them into the template's form. */
int openai_parse_messages(struct openai_request *r, struct api_problem *p);

/* prompt of a completion in its four forms. */
int openai_parse_prompt(struct openai_request *r, struct api_problem *p);

#endif
