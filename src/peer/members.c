/* Telling each other who is there. */
#include "peer/internal.h"

#include "peer/link.h"
#include "peer/members.h"

#include <stdio.h>

/* One of the list. */
struct member {
    char id[PEER_ID_TEXT];
    char name[PEER_NAME_TEXT];
    char address[ADDRESS_TEXT];
    bool keep; /* everybody is to reach it at all times */
};

static const struct message_field member_fields[] = {
    { MESSAGE_TEXT(struct member, id) },
    { MESSAGE_TEXT(struct member, name) },
    { MESSAGE_TEXT(struct member, address) },
    { MESSAGE_FLAG(struct member, keep) },
};

const struct message_field members_fields[MEMBERS_FIELDS] = {
    { MESSAGE_ARRAY(struct members, members, PEERS_MAX) },
};

static void send_members(struct peers *all, struct peer *to)
{
    json_t *list = json_array();
    for (int i = 0; i < all->n; i++) {
        const struct peer *p = all->table[i];
        if (p == to || !peer_alive(p)) {
            continue;
        }
        char address[ADDRESS_TEXT];
        peer_address_for(p, to, address);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:b}", "id", p->id, "name", p->name,
                                              "address", address, "keep", (int)p->keep));
    }
    link_send(to->link, json_pack("{s:s, s:o}", "type", "members", "members", list));
}

void peers_tell_members(struct peers *all)
{
    for (int i = 1; i < all->n; i++) {
        if (all->table[i]->link != NULL) {
            send_members(all, all->table[i]);
        }
    }
}

enum peer_verdict on_members(void *arg, struct peer *from, const void *fields, struct error *e)
{
    struct peers *all = arg;
    const struct members *m = fields;
    const json_t *item = NULL;
    size_t i = 0;
    json_array_foreach(m->members, i, item)
    {
        struct member one = { 0 };
        if (message_read(item, member_fields, ARRAY_LEN(member_fields), &one, e) != 0) {
            return PEER_VIOLATION;
        }
        struct peer *p = peers_add(all, one.id, one.address);
        if (p == NULL || p->self || p->link != NULL) {
            continue;
        }
        peer_take_name(p, one.name);
        /* Where a kept one is, it says itself; else any member could lead us away from it. */
        if (!p->keep || p->address[0] == '\0' || from->keep) {
            snprintf(p->address, sizeof p->address, "%s", one.address);
        }
        if (one.keep && !p->keep && all->options.events->keep(all->options.arg, p, from)) {
            peer_keep(p, true);
        }
    }
    return PEER_DONE;
}
