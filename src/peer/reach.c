/* Reaching a peer over its link. */
#include "peer/internal.h"

#include <stdlib.h>

#include "os/log.h"
#include "peer/link.h"

#include <event2/event.h>
#include <stdio.h>

void peer_address_for(const struct peer *p, const struct peer *to, char text[static ADDRESS_TEXT])
{
    char host[ADDRESS_TEXT] = "";
    if (p->self || address_is_loopback(p->address)) {
        link_own_host(to->link, host);
    }
    if (host[0] != '\0') {
        address_join(host, p->port, text);
    } else {
        snprintf(text, ADDRESS_TEXT, "%s", p->address);
    }
}

void peer_send(struct peer *p, json_t *body)
{
    struct peers *all = p->owner;
    if (!p->self) {
        link_send(p->link, body);
        return;
    }
    struct local_message *m = body != NULL ? calloc(1, sizeof *m) : NULL;
    if (m == NULL) {
        json_decref(body);
        log_error("cluster", "a message to this device itself could not be built");
        return;
    }
    m->body = body;
    if (all->last_local != NULL) {
        all->last_local->next = m;
    } else {
        all->first_local = m;
    }
    all->last_local = m;
    event_active(all->local, 0, 0);
}

json_t *peer_link_json(const struct peer *p)
{
    return p->link != NULL ? link_json(p->link) : NULL;
}
