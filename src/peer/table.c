/* The peers that are known. An entry is made for whoever proves membership and for whoever a peer
 * names; one without a link that nobody keeps gives way when room is needed, the longest unseen
 * first, so that no list of names fills the table. */
#include "peer/internal.h"

#include <stdlib.h>

#include "base/display.h"
#include "os/host.h"

#include <stdio.h>
#include <string.h>

void peer_take_name(struct peer *p, const char *name)
{
    display_copy(p->name, sizeof p->name, bytes_text(name));
}

bool source_is_known(const struct peers *all, const char *source)
{
    char own[ADDRESS_TEXT];
    for (int i = 1; i < all->n; i++) {
        address_source(all->table[i]->address, own);
        if (all->table[i]->joined_once && strcmp(own, source) == 0) {
            return true;
        }
    }
    return false;
}

struct peer *peers_self(const struct peers *all)
{
    return all->table[0];
}

int peers_count(const struct peers *all)
{
    return all->n;
}

struct peer *peers_at(const struct peers *all, int index)
{
    return all->table[index];
}

struct peer *peers_find(const struct peers *all, const char *id)
{
    for (int i = 0; i < all->n; i++) {
        if (strcmp(all->table[i]->id, id) == 0) {
            return all->table[i];
        }
    }
    return NULL;
}

/* The entry that gives way when one is needed; 0 where every one is needed. */
static int yields(const struct peers *all)
{
    int oldest = 0;
    for (int i = 1; i < all->n; i++) {
        const struct peer *p = all->table[i];
        bool free_to_go = p->link == NULL && !p->keep && p->uses == 0;
        if (free_to_go && (oldest == 0 || p->seen_ns < all->table[oldest]->seen_ns)) {
            oldest = i;
        }
    }
    return oldest;
}

bool table_has_room(const struct peers *all, const char *id)
{
    return peers_find(all, id) != NULL || all->n < PEERS_MAX || yields(all) > 0;
}

static bool make_room(struct peers *all)
{
    int i = all->n < PEERS_MAX ? 0 : yields(all);
    if (all->n == PEERS_MAX && i == 0) {
        return false;
    }
    if (i > 0) {
        struct peer *p = all->table[i];
        all->options.events->forgotten(all->options.arg, p);
        all->table[i] = all->table[--all->n];
        free(p);
    }
    return true;
}

struct peer *peers_add(struct peers *all, const char *id, const char *address)
{
    struct peer *p = peers_find(all, id);
    if (p == NULL && strlen(id) < PEER_ID_TEXT && make_room(all) &&
        (p = calloc(1, sizeof *p)) != NULL) {
        p->owner = all;
        p->seen_ns = all->now_ns;
        snprintf(p->id, sizeof p->id, "%s", id);
        char brief[PEER_SHORT + 1];
        snprintf(brief, sizeof brief, "%s", id);
        peer_take_name(p, brief);
        all->table[all->n++] = p;
    }
    if (p != NULL && p->address[0] == '\0' && strlen(address) < sizeof p->address) {
        snprintf(p->address, sizeof p->address, "%s", address);
    }
    return p;
}

int table_open(struct peers *all, const char *id, const char *name, struct error *e)
{
    struct peer *me = peers_add(all, id, "");
    char host[HOST_NAME_TEXT];
    if (me == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a device");
    }
    me->self = true;
    if (name == NULL) {
        host_name(host, sizeof host);
        name = host;
    }
    peer_take_name(me, name);
    return 0;
}

void table_free(struct peers *all)
{
    for (int i = 0; i < all->n; i++) {
        free(all->table[i]);
    }
    all->n = 0;
}

const char *peer_id(const struct peer *p)
{
    return p->id;
}

const char *peer_name(const struct peer *p)
{
    return p->name;
}

const char *peer_label(const struct peer *p, char text[static PEER_LABEL])
{
    snprintf(text, PEER_LABEL, "%s (%.*s)", p->name, PEER_SHORT, p->id);
    return text;
}

const char *peer_address(const struct peer *p)
{
    return p->address;
}

bool peer_is_self(const struct peer *p)
{
    return p->self;
}

bool peer_was_joined(const struct peer *p)
{
    return p->joined;
}

bool peer_alive(const struct peer *p)
{
    return p->self || p->link != NULL;
}

void peer_keep(struct peer *p, bool keep)
{
    p->keep = keep;
    p->dial_at = p->owner->now_ns;
}

void *peer_user(const struct peer *p)
{
    return p->user;
}

void peer_set_user(struct peer *p, void *user)
{
    p->user = user;
}
