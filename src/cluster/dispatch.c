/* Which message goes where, and who may send it. */
#include "cluster/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/log.h"

enum sender { FROM_ANY, FROM_HEAD, TO_HEAD };

static const struct {
    const char *type;
    enum sender sender;
    message_handler handle;
} handlers[] = {
    { "ping", FROM_ANY, on_ping },
    { "members", FROM_ANY, on_members },
    { "twin", FROM_ANY, on_twin },
    { "models", FROM_HEAD, on_models },
    { "status", FROM_HEAD, on_status },
    { "load", FROM_HEAD, on_load },
    { "claim", FROM_HEAD, on_claim },
    { "unload", FROM_HEAD, on_unload },
    { "connect", FROM_HEAD, on_connect },
    { "part", TO_HEAD, on_part_state },
    { "ticket_request", FROM_ANY, on_ticket_request },
    { "ticket", FROM_ANY, on_ticket },
    { "request", TO_HEAD, on_request },
    { "request_end", TO_HEAD, on_request_end },
    { "cancel", TO_HEAD, on_cancel },
    { "reply", FROM_HEAD, on_reply },
    { "reply_end", FROM_HEAD, on_reply_end },
};

int dispatch(struct cluster *c, struct device *from, const struct message *m, struct error *e)
{
    if (m->body == NULL) {
        return on_stream_data(c, from, m->stream, m->data, e);
    }
    for (size_t i = 0; i < ARRAY_LEN(handlers); i++) {
        if (strcmp(handlers[i].type, m->type) != 0) {
            continue;
        }
        if ((handlers[i].sender == FROM_HEAD && !from->head) ||
            (handlers[i].sender == TO_HEAD && !c->self->head)) {
            return fail(e, FAIL_AUTH, "message '%s' is only for the head to %s", m->type,
                        handlers[i].sender == FROM_HEAD ? "send" : "receive");
        }
        int code = handlers[i].handle(c, from, m->body, e);
        return code == 0 ? 0 : wrap(e, "message '%s'", m->type);
    }
    /* A later minor version may say more than we know. */
    char label[DEVICE_LABEL];
    log_debug("cluster", "message '%s' from %s is unknown and passed over", m->type,
              device_label(from, label));
    return 0;
}

void dispatch_local(struct cluster *c)
{
    while (c->first_local != NULL) {
        struct local_message *m = c->first_local;
        c->first_local = m->next;
        if (c->first_local == NULL) {
            c->last_local = NULL;
        }
        struct message decoded = { .body = m->body };
        const char *type = json_string_value(json_object_get(m->body, "type"));
        struct error e = { 0 };
        snprintf(decoded.type, sizeof decoded.type, "%s", type ? type : "");
        if (dispatch(c, c->self, &decoded, &e) != 0) {
            log_error("cluster", "%s", e.text);
        }
        message_done(&decoded);
        free(m);
    }
}
