/* Answers that are there at once. */
#include "api/internal.h"

#include <stdlib.h>

void reply_json(struct responder *r, int status, json_t *json, const char *headers)
{
    char *text = json != NULL ? json_dumps(json, API_JSON_FLAGS) : NULL;
    json_decref(json);
    r->closed = NULL;
    if (text == NULL) {
        status = 500;
    }
    r->ops->begin(r, status, "application/json", false, headers);
    const char *none = "{\"error\":{\"message\":\"Out of memory.\",\"type\":\"server_error\","
                       "\"param\":null,\"code\":null}}";
    r->ops->write(r, bytes_text(text != NULL ? text : none));
    r->ops->end(r);
    free(text);
}

void reply_problem(struct responder *r, const struct api_problem *p)
{
    reply_json(r, p->status, problem_json(p), NULL);
}
