/* Asking for a ticket and giving it, as messages. Pure. */
#include "peer/data.h"

const struct message_field ticket_request_fields[TICKET_REQUEST_FIELDS] = {
    { MESSAGE_INTEGER(struct ticket_request, subject, 1, INT64_MAX) },
    { MESSAGE_INTEGER(struct ticket_request, epoch, 1, UINT32_MAX) },
    { MESSAGE_INT(struct ticket_request, index, 0, CHANNEL_MAX_INDEX - 1) },
    { MESSAGE_FLAG(struct ticket_request, shm) },
};

const struct message_field ticket_answer_fields[TICKET_ANSWER_FIELDS] = {
    { MESSAGE_INTEGER(struct ticket_answer, subject, 1, INT64_MAX) },
    { MESSAGE_INTEGER(struct ticket_answer, epoch, 1, UINT32_MAX) },
    { MESSAGE_INT(struct ticket_answer, index, 0, CHANNEL_MAX_INDEX - 1) },
    { MESSAGE_TEXT(struct ticket_answer, ticket) },
    { MESSAGE_TEXT(struct ticket_answer, shm), .optional = true },
    { MESSAGE_TEXT(struct ticket_answer, error) },
};

json_t *ticket_request_json(const struct ticket_request *r)
{
    return json_pack("{s:s, s:I, s:I, s:i, s:b}", "type", "ticket_request", "subject",
                     (json_int_t)r->subject, "epoch", (json_int_t)r->epoch, "index", r->index,
                     "shm", (int)r->shm);
}

json_t *ticket_answer_json(const struct ticket_answer *a)
{
    return json_pack("{s:s, s:I, s:I, s:i, s:s, s:s*, s:s}", "type", "ticket", "subject",
                     (json_int_t)a->subject, "epoch", (json_int_t)a->epoch, "index", a->index,
                     "ticket", a->ticket, "shm", a->shm[0] != '\0' ? a->shm : NULL, "error",
                     a->error);
}
