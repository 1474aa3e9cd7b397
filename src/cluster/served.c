/* Which models are served: told by the head, known by everyone. */
#include "cluster/internal.h"

#include <stdlib.h>

#include "cluster/service.h"

#include <stdio.h>
#include <string.h>

/* One model of the head, as a member knows it. */
struct served {
    char id[MODEL_ID_TEXT];
    char why[ERROR_TEXT];
    enum cluster_model_state state;
    int context;
    int64_t created_s;
    struct served *next;
};

struct models_message {
    const json_t *models;
};

#define CREATED_MAX (INT64_C(1) << 40)

static const char *const state_names[] = { "waiting", "loading", "ready" };

void services_announce(struct cluster *c, struct device *to)
{
    for (int i = 0; i < c->n_devices; i++) {
        struct device *d = c->devices[i];
        if (d->self || !device_alive(d) || (to != NULL && d != to)) {
            continue;
        }
        json_t *all = json_array();
        for (int k = 0; k < service_count(c); k++) {
            struct service_view v;
            service_view(c, k, &v);
            json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:i, s:I}", "id", v.id, "state",
                                                 state_names[v.state], "why", v.why, "context",
                                                 v.context, "created", (json_int_t)v.created_s));
        }
        device_send(c, d, json_pack("{s:s, s:o}", "type", "models", "models", all));
    }
}

void served_forget(struct cluster *c)
{
    while (c->served != NULL) {
        struct served *s = c->served;
        c->served = s->next;
        free(s);
    }
}

struct model_message {
    char id[MODEL_ID_TEXT], state[16], why[ERROR_TEXT];
    int context;
    int64_t created;
};

static const struct message_field model_fields[] = {
    { MESSAGE_TEXT(struct model_message, id) },
    { MESSAGE_TEXT(struct model_message, state) },
    { MESSAGE_TEXT(struct model_message, why) },
    { MESSAGE_INT(struct model_message, context, 0, INT32_MAX) },
    { MESSAGE_INTEGER(struct model_message, created, 0, CREATED_MAX) },
};

static int take_one(const json_t *item, struct served *s, struct error *e)
{
    struct model_message m = { .context = 0 };
    int code = message_read(item, model_fields, ARRAY_LEN(model_fields), &m, e);
    for (int i = 0; i < (int)ARRAY_LEN(state_names); i++) {
        s->state = strcmp(m.state, state_names[i]) == 0 ? (enum cluster_model_state)i : s->state;
    }
    memcpy(s->id, m.id, sizeof s->id);
    memcpy(s->why, m.why, sizeof s->why);
    s->context = m.context;
    s->created_s = m.created;
    return code;
}

static const struct message_field models_fields[] = {
    { MESSAGE_ARRAY(struct models_message, models, CLUSTER_MAX_SERVICES) },
};

enum peer_verdict on_models(void *arg, struct peer *from, const void *fields, struct error *e)
{
    struct cluster *c = arg;
    struct models_message m = { .models = NULL };
    if (message_read(((const struct whole_message *)fields)->body, models_fields, 1, &m, e) != 0) {
        return PEER_VIOLATION;
    }
    if (peer_is_self(from)) {
        return PEER_DONE;
    }
    served_forget(c);
    for (size_t i = json_array_size(m.models); i > 0; i--) {
        struct served *s = calloc(1, sizeof *s);
        if (s == NULL) {
            fail(e, FAIL_NOMEM, "memory for the list of models");
            return PEER_REFUSED;
        }
        s->next = c->served;
        c->served = s;
        if (take_one(json_array_get(m.models, i - 1), s, e) != 0) {
            return PEER_VIOLATION;
        }
    }
    return PEER_DONE;
}

int cluster_model_count(const struct cluster *c)
{
    int n = service_count(c);
    if (!c->self->head) {
        n = 0;
        for (const struct served *s = c->served; s != NULL; s = s->next) {
            n++;
        }
    }
    return n;
}

void cluster_model_at(const struct cluster *c, int index, struct cluster_model *ret)
{
    if (c->self->head) {
        struct service_view v;
        service_view(c, index, &v);
        *ret = (struct cluster_model){ .id = v.id,
                                       .state = v.state,
                                       .why = v.why,
                                       .engine = v.engine,
                                       .text = v.text,
                                       .context = v.context,
                                       .created_s = v.created_s };
        return;
    }
    const struct served *s = c->served;
    for (int i = 0; i < index; i++) {
        s = s->next;
    }
    *ret = (struct cluster_model){ .id = s->id,
                                   .state = s->state,
                                   .why = s->why,
                                   .context = s->context,
                                   .created_s = s->created_s };
}
