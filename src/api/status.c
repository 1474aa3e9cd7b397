/* GET /api/status and /health. */
#include "api/internal.h"

#include "engine/engine.h"

/* What the API itself knows of a model. */
static json_t *model_status(const struct api_model *m)
{
    const char *state = m->engine != NULL ? "ready" : m->elsewhere ? "elsewhere" : "waiting";
    json_t *j = json_pack("{s:s,s:s,s:i,s:s?}", "id", m->id, "state", state, "context", m->context,
                          "why", m->engine == NULL ? m->why : NULL);
    if (m->engine == NULL || j == NULL) {
        return j;
    }
    struct engine_stats s = { 0 };
    engine_stats(m->engine, &s);
    json_t *more = json_pack("{s:i,s:i,s:I,s:I,s:I,s:I,s:f,s:f}", "active", s.active, "queued",
                             s.queued, "requests", (json_int_t)s.requests, "failed",
                             (json_int_t)s.failed, "prompt_tokens", (json_int_t)s.prompt_tokens,
                             "completion_tokens", (json_int_t)s.completion_tokens,
                             "decode_tokens_per_second", s.decode_tokens_per_second,
                             "prefill_tokens_per_second", s.prefill_tokens_per_second);
    json_object_update(j, more);
    json_decref(more);
    if (s.broken) {
        json_object_set_new(j, "state", json_string("broken"));
        json_object_set_new(j, "why", text_json(bytes_text(s.why)));
    }
    return j;
}

/* Adds what the API knows to the entry of the same id, or as a new entry. */
static void merge_model(json_t *models, json_t *known)
{
    size_t i = 0;
    json_t *entry = NULL;
    json_array_foreach(models, i, entry)
    {
        json_t *id = json_object_get(entry, "id");
        if (json_equal(id, json_object_get(known, "id"))) {
            json_object_update_missing(entry, known);
            json_decref(known);
            return;
        }
    }
    json_array_append_new(models, known);
}

void status_handle(struct api *a, const struct api_request *q, struct responder *r)
{
    const struct api_provider *p = &a->options.provider;
    json_t *status = p->status != NULL ? p->status(p->arg) : json_object();
    json_t *models = json_object_get(status, "models");
    if (!json_is_array(models)) {
        models = json_array();
        json_object_set_new(status, "models", models);
    }
    int n = p->count(p->arg);
    for (int i = 0; i < n; i++) {
        struct api_model m = { 0 };
        p->at(p->arg, i, &m);
        merge_model(models, model_status(&m));
    }
    json_object_set_new(status, "version", json_string(SHOAL_VERSION));
    json_object_set_new(status, "requests", json_integer(a->n_answers));
    reply_json(r, 200, status, NULL);
}

void health_handle(struct api *a, const struct api_request *q, struct responder *r)
{
    const struct api_provider *p = &a->options.provider;
    int ready = 0, n = p->count(p->arg);
    for (int i = 0; i < n; i++) {
        struct api_model m = { 0 };
        p->at(p->arg, i, &m);
        ready += m.ready;
    }
    reply_json(r, 200, json_pack("{s:s,s:i}", "status", "ok", "models_ready", ready), NULL);
}
