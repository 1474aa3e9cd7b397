/* Of two devices the one with the smaller id decides whether a link stays, and says hello second;
 * the other one's welcome opens it. So two links that cross are never both used, none that is in
 * use is given up for another (the decider keeps what it has unless the other says that it gave up
 * just that one), and a device that is refused has not begun. */
#include "peer/hello.h"

#include "os/log.h"

#include <stdio.h>
#include <string.h>

struct hello {
    char id[PEER_ID_TEXT];
    char name[PEER_NAME_TEXT];
    int64_t run;
    int peer_port;
    int64_t number; /* that the sender gave this link; 0 before it is open there */
    int64_t over;   /* the receiver's number of the last link that the sender had open with it and
                     * has no more; 0 while it has one */
    bool requests;  /* a second link, for requests that travel */
    const json_t *facts;
};

static const struct message_field hello_fields[] = {
    { MESSAGE_TEXT(struct hello, id) },
    { MESSAGE_TEXT(struct hello, name) },
    { MESSAGE_INTEGER(struct hello, run, 1, INT64_MAX) },
    { MESSAGE_INT(struct hello, peer_port, 0, 65535) },
    { MESSAGE_INTEGER(struct hello, number, 0, INT64_MAX) },
    { MESSAGE_INTEGER(struct hello, over, 0, INT64_MAX) },
    { MESSAGE_FLAG(struct hello, requests) },
    { MESSAGE_OBJECT(struct hello, facts) },
};

struct refused {
    char text[ERROR_TEXT];
};

static const struct message_field refused_fields[] = { { MESSAGE_TEXT(struct refused, text) } };

struct cluster_key {
    char key[SECURITY_KEY_TEXT];
};

static const struct message_field key_fields[] = { { MESSAGE_TEXT(struct cluster_key, key) } };

void hello_send(struct link *l)
{
    const struct peers *all = link_peers(l);
    const struct peer *me = peers_self(all), *to = peers_find(all, link_peer_id(l));
    int64_t over = to != NULL && to->link == NULL ? to->over : 0;
    link_send(l, json_pack("{s:s, s:s, s:s, s:I, s:i, s:I, s:I, s:b, s:o}", "type", "hello", "id",
                           me->id, "name", me->name, "run", (json_int_t)me->run, "peer_port",
                           me->port, "number", (json_int_t)link_number(l), "over", (json_int_t)over,
                           "requests", (int)link_is_for_requests(l), "facts",
                           all->options.events->facts(all->options.arg)));
}

static bool decides(const struct link *l)
{
    return strcmp(peers_self(link_peers(l))->id, link_peer_id(l)) < 0;
}

void hello_begin(struct link *l)
{
    if (link_proof(l)->by == HANDSHAKE_BY_INVITATION && !link_is_client(l)) {
        char key[SECURITY_KEY_TEXT];
        security_key_text(link_peers(l), key);
        link_send(l, json_pack("{s:s, s:s}", "type", "cluster_key", "key", key));
    }
    /* Of a device with our own key the one that came speaks first. */
    bool mine = strcmp(peers_self(link_peers(l))->id, link_peer_id(l)) == 0;
    bool first = mine || link_is_for_requests(l) ? link_is_client(l) : !decides(l);
    if (first) {
        hello_send(l);
    }
}

/* Two processes with one device key would throw each other out for ever: while one is here the
 * other is refused, and both are told. */
static enum peer_verdict turn_away_twin(struct link *l, const struct peer *p)
{
    char why[ERROR_TEXT], label[PEER_LABEL];
    peer_label(p, label);
    log_limited(LOG_WARN, "cluster", "second device with one key", link_address(l),
                "link %s %s refused: a second device with the key of %s: was its home copied? "
                "Remove device.key from the copy",
                link_is_client(l) ? "to" : "from", link_address(l), label);
    snprintf(why, sizeof why,
             "another device with this device's key is in the cluster already, as %s: was this "
             "home copied? Remove device.key here, and it becomes a device of its own",
             label);
    link_send(p->link, json_pack("{s:s, s:s}", "type", "twin", "address", link_address(l)));
    link_turn_away(l, why);
    return PEER_DONE;
}

static enum peer_verdict judge_newcomer(struct link *l, struct peer *p, const struct hello *h,
                                        struct error *e)
{
    if (p->self) {
        fail(e, FAIL_STATE, "this is the device itself");
        return PEER_VIOLATION;
    }
    bool in_use = p->link != NULL && h->over != link_number(p->link);
    if (decides(l) && (in_use || link_is_chosen(link_peers(l), h->id))) {
        link_turn_away(l, LINK_SPARE);
        return PEER_DONE;
    }
    return PEER_DONE;
}

static void open_it(struct link *l, struct peer *p)
{
    if (p->link != NULL) {
        link_end(p->link, "it came back over a new link");
        links_tell_ended(link_peers(l));
    }
    link_open(l, p);
}

static void take_address(struct peer *p, const struct link *l, const struct hello *h)
{
    char host[ADDRESS_TEXT];
    int port = 0;
    p->port = h->peer_port;
    if (address_parse(link_address(l), 1, host, &port, NULL) == 0) {
        address_join(host, h->peer_port, p->address);
    }
}

/* A second link of a device that has one. Who opened it says so; its number and rank decide
 * nothing. */
static enum peer_verdict take_requests_link(struct link *l, const struct hello *h, bool *opened)
{
    struct peer *p = peers_find(link_peers(l), h->id);
    if (p == NULL || p->link == NULL || p->run != h->run || link_is_client(l)) {
        link_turn_away(l, "a link for requests needs a control link");
        return PEER_DONE;
    }
    link_set_for_requests(l);
    link_open(l, p);
    link_send(l, json_pack("{s:s}", "type", "welcome"));
    *opened = true;
    return PEER_DONE;
}

static enum peer_verdict take_hello(struct link *l, const json_t *m, bool *opened, struct error *e)
{
    struct peers *all = link_peers(l);
    struct hello h = { .run = 0 };
    if (message_read(m, hello_fields, ARRAY_LEN(hello_fields), &h, e) != 0) {
        wrap(e, "hello");
        return PEER_VIOLATION;
    }
    if (strcmp(h.id, link_peer_id(l)) != 0) {
        fail(e, FAIL_AUTH, "hello under another id than the link's key has");
        return PEER_VIOLATION;
    }
    if (h.requests) {
        return take_requests_link(l, &h, opened);
    }
    struct peer *p = peers_add(all, h.id, "");
    if (p == NULL) {
        fail(e, FAIL_LIMIT, "%d devices are linked, the most there may be", PEERS_MAX);
        return PEER_VIOLATION;
    }
    if ((p->self || p->link != NULL) && h.run != p->run) {
        return turn_away_twin(l, p);
    }
    enum peer_verdict verdict = judge_newcomer(l, p, &h, e);
    if (verdict != PEER_DONE || link_state(l) != LINK_HELLO) {
        return verdict;
    }
    peer_take_name(p, h.name);
    p->joined = p->joined || (link_is_client(l) && link_expected(l)[0] == '\0');
    if (all->options.events->take_facts(all->options.arg, p, h.facts, e) != 0) {
        return PEER_VIOLATION;
    }
    p->run = h.run;
    p->over = h.number;
    take_address(p, l, &h);
    if (decides(l)) {
        link_choose(l);
        hello_send(l);
    } else {
        open_it(l, p);
        link_send(l, json_pack("{s:s}", "type", "welcome"));
        *opened = true;
    }
    return PEER_DONE;
}

static enum peer_verdict take_welcome(struct link *l, bool *opened, struct error *e)
{
    struct peer *p = peers_find(link_peers(l), link_peer_id(l));
    if (p == NULL) {
        fail(e, FAIL_STATE, "its entry is gone");
        return PEER_VIOLATION;
    }
    if (!link_is_for_requests(l)) {
        open_it(l, p);
    } else if (p->link != NULL) {
        link_open(l, p);
    } else {
        link_end(l, "the control link ended");
        return PEER_DONE;
    }
    *opened = true;
    return PEER_DONE;
}

enum peer_verdict hello_take(struct link *l, const struct message *m, bool *opened, struct error *e)
{
    struct refused refused;
    struct cluster_key key;
    bool ours = link_is_for_requests(l); /* dialled for requests: the peer's hello says nothing */
    if (strcmp(m->type, "hello") == 0 && link_state(l) == LINK_HELLO) {
        return ours ? PEER_DONE : take_hello(l, m->body, opened, e);
    }
    if (strcmp(m->type, "welcome") == 0 && (ours || link_state(l) == LINK_CHOSEN)) {
        return take_welcome(l, opened, e);
    }
    if (strcmp(m->type, "refused") == 0) {
        if (message_read(m->body, refused_fields, 1, &refused, e) == 0) {
            link_refused_by_peer(l, refused.text);
            return PEER_DONE;
        }
        return PEER_VIOLATION;
    }
    if (strcmp(m->type, "cluster_key") == 0 && link_is_client(l) &&
        link_proof(l)->by == HANDSHAKE_BY_INVITATION) {
        int code = message_read(m->body, key_fields, 1, &key, e);
        code = code ? code : security_take_key(link_peers(l), key.key, e);
        return code == 0 ? PEER_DONE : PEER_VIOLATION;
    }
    fail(e, FAIL_FORMAT, "message '%s' before hello", m->type);
    return PEER_VIOLATION;
}

enum peer_verdict hello_again(struct link *l, const struct message *m, struct error *e)
{
    struct peers *all = link_peers(l);
    struct peer *p = link_peer(l);
    struct hello h = { .run = 0 };
    int code = message_read(m->body, hello_fields, ARRAY_LEN(hello_fields), &h, e);
    if (code == 0 && (strcmp(h.id, p->id) != 0 || h.run != p->run)) {
        code = fail(e, FAIL_AUTH, "hello of another device than the link's");
    }
    code = code ? code : all->options.events->take_facts(all->options.arg, p, h.facts, e);
    if (code != 0) {
        return PEER_VIOLATION;
    }
    peer_take_name(p, h.name);
    return PEER_DONE;
}
