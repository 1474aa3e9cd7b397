/* GET /v1/models, and which model serves a request. */
#include "api/internal.h"

#include <event2/http.h>
#include <stdlib.h>
#include <string.h>

#include "base/model_name.h"
#include "engine/engine.h"

static json_t *model_json(const struct api_model *m)
{
    json_t *j = json_pack("{s:s,s:s,s:I,s:s,s:b}", "id", m->id, "object", "model", "created",
                          (json_int_t)m->created_s, "owned_by", "shoal", "ready", m->ready);
    if (m->context > 0) {
        json_object_set_new(j, "context_length", json_integer(m->context));
    }
    if (!m->ready) {
        json_object_set_new(j, "why", text_json(bytes_text(m->why != NULL ? m->why : "")));
    }
    return j;
}

bool models_find(const struct api *a, const char *name, struct api_model *ret)
{
    const struct api_provider *p = &a->options.provider;
    enum model_name_match match = MODEL_NAME_OTHER;
    int n = p->count(p->arg);
    for (int i = 0; i < n; i++) {
        struct api_model m = { 0 };
        p->at(p->arg, i, &m);
        enum model_name_match this = model_name_compare(m.id, name);
        if (this > match) {
            match = this;
            *ret = m;
        }
    }
    return match != MODEL_NAME_OTHER;
}

static void not_found(struct api_problem *p, const char *name)
{
    problem_set(p, 404, "model_not_found", "model",
                "The model '%.200s' does not exist here; GET /v1/models lists those that do.",
                name);
}

void models_list_handle(struct api *a, const struct api_request *q, struct responder *r)
{
    const struct api_provider *p = &a->options.provider;
    json_t *list = json_array();
    int n = p->count(p->arg);
    for (int i = 0; i < n; i++) {
        struct api_model m = { 0 };
        p->at(p->arg, i, &m);
        json_array_append_new(list, model_json(&m));
    }
    reply_json(r, 200, json_pack("{s:s,s:o}", "object", "list", "data", list), NULL);
}

void models_get_handle(struct api *a, const struct api_request *q, struct responder *r)
{
    const char *rest = q->path + strlen("/v1/models/");
    char *encoded = strndup(rest, strcspn(rest, "?#"));
    size_t size = 0;
    char *name = encoded != NULL ? evhttp_uridecode(encoded, 0, &size) : NULL;
    struct api_model m;
    struct api_problem p = { 0 };
    if (name != NULL && strlen(name) == size && models_find(a, name, &m)) {
        reply_json(r, 200, model_json(&m), NULL);
    } else {
        not_found(&p, name != NULL ? name : "");
        reply_problem(r, &p);
    }
    free(encoded);
    free(name);
}

int models_serving(struct api *a, const char *name, struct api_model *ret, struct api_problem *p)
{
    struct api_model m;
    if (!models_find(a, name, &m)) {
        not_found(p, name);
        return -1;
    }
    if (m.engine != NULL && chat_model_vocab(m.text) == NULL) {
        return problem_set(p, 400, "unsupported_value", "model",
                           "The file of the model '%.100s' has no vocabulary.", m.id);
    }
    if (m.engine == NULL && (!m.elsewhere || a->options.provider.forward == NULL)) {
        return problem_set(p, 503, "model_not_ready", "model",
                           "The model '%.100s' isn't ready%s%.300s.", m.id, m.why ? ": " : "",
                           m.why ? m.why : "");
    }
    *ret = m;
    return 0;
}
