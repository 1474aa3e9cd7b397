/* Asking for a ticket and giving it, as messages. Pure. */
#include "cluster/data.h"

#include <stdio.h>

json_t *data_request_json(const struct data_purpose *p, bool seal, bool shm)
{
    return json_pack("{s:s, s:I, s:I, s:i, s:b, s:b}", "type", "ticket_request", "placement",
                     (json_int_t)p->placement, "epoch", (json_int_t)p->epoch, "link", p->link,
                     "seal", (int)seal, "shm", (int)shm);
}

int data_purpose_parse(const json_t *m, struct data_purpose *ret, struct error *e)
{
    struct data_purpose p = { 0 };
    int64_t epoch = 0;
    int code = message_integer(m, "placement", 1, INT64_MAX, &p.placement, e);
    code = code ? code : message_integer(m, "epoch", 1, UINT32_MAX, &epoch, e);
    code = code ? code : message_int(m, "link", 0, WIRE_MAX_LINKS - 1, &p.link, e);
    if (code == 0) {
        p.epoch = (uint32_t)epoch;
        *ret = p;
    }
    return code;
}

json_t *data_ticket_json(const struct data_purpose *p, const struct data_ticket *t)
{
    return json_pack("{s:s, s:I, s:I, s:i, s:s, s:b, s:s*, s:s}", "type", "ticket", "placement",
                     (json_int_t)p->placement, "epoch", (json_int_t)p->epoch, "link", p->link,
                     "ticket", t->ticket, "seal", (int)t->seal, "shm",
                     t->shm[0] != '\0' ? t->shm : NULL, "error", t->error);
}

int data_ticket_parse(const json_t *m, struct data_ticket *ret, struct error *e)
{
    const char *ticket = "", *shm = "", *error = "";
    int code = message_text(m, "ticket", TICKET_HEX, &ticket, e);
    code = code ? code : message_text(m, "error", ERROR_TEXT - 1, &error, e);
    if (code == 0 && json_object_get(m, "shm") != NULL) {
        code = message_text(m, "shm", SHM_TOKEN - 1, &shm, e);
    }
    if (code != 0) {
        return code;
    }
    *ret = (struct data_ticket){ .seal = message_flag(m, "seal") };
    snprintf(ret->ticket, sizeof ret->ticket, "%s", ticket);
    snprintf(ret->shm, sizeof ret->shm, "%s", shm);
    snprintf(ret->error, sizeof ret->error, "%s", error);
    return 0;
}
