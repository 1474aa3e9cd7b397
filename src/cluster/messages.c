/* Which messages there are between a head and its members, and who may send them; which data
 * channels go to whom. */
#include "cluster/internal.h"

#include "cluster/part.h"
#include "cluster/service.h"
#include "transport/transport.h"

#include <string.h>

static const struct message_field whole_fields[] = {
    { MESSAGE_WHOLE(struct whole_message, body) },
};

static const struct message_field id_fields[] = {
    { MESSAGE_INTEGER(struct placement_id, placement, 1, INT64_MAX) },
    { MESSAGE_INTEGER(struct placement_id, epoch, 1, UINT32_MAX) },
};

#define ROW(name, who, table, kind, handler)                                                       \
    {                                                                                              \
        .type = name, .sender = who, .fields = table, .n_fields = ARRAY_LEN(table),                \
        .size = sizeof(kind), .handle = handler                                                    \
    }

const struct peer_message cluster_messages[] = {
    ROW("report", 0, whole_fields, struct whole_message, on_report),
    ROW("models", FROM_HEAD, whole_fields, struct whole_message, on_models),
    ROW("status", FROM_HEAD, whole_fields, struct whole_message, on_status),
    ROW("load", FROM_HEAD, whole_fields, struct whole_message, on_load),
    ROW("claim", FROM_HEAD, whole_fields, struct whole_message, on_claim),
    ROW("unload", FROM_HEAD, id_fields, struct placement_id, on_unload),
    ROW("connect", FROM_HEAD, id_fields, struct placement_id, on_connect),
    ROW("part", TO_HEAD, whole_fields, struct whole_message, on_part_state),
};
#undef ROW
const int cluster_n_messages = ARRAY_LEN(cluster_messages);

/* --- data channels --- */

static int awaits(void *arg, struct peer *from, const struct channel_purpose *p,
                  size_t *max_message, struct error *e)
{
    return part_expects(arg, peer_id(from), p, max_message, e);
}

static void came(void *arg, const struct channel_purpose *p, struct channel *channel)
{
    part_channel(arg, p->subject, p->epoch, p->index, channel);
}

/* Steps from the head, or what a rank opened to another. */
static void opened(void *arg, const struct channel_purpose *p, struct channel *channel,
                   const struct error *error)
{
    if (!service_channel(arg, p, channel, error) && !part_opened(arg, p, channel, error)) {
        channel_close(channel);
    }
}

const struct channel_owner cluster_channels = { awaits, came, opened };
