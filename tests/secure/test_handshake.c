/* TLS, membership records, tickets, and what an attacker may try. */
#include "tests/test.h"

#include <openssl/ssl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "secure/listener.h"
#include "secure/ticket.h"
#include "secure/tls.h"

struct device {
    char root[64];
    struct identity *identity;
    struct tls *tls;
};

static void open_device(struct device *d)
{
    struct error e = { 0 };
    snprintf(d->root, sizeof d->root, "/tmp/shoal-test-XXXXXX");
    assert_non_null(mkdtemp(d->root));
    assert_int_equal(identity_open(&d->identity, d->root, &e), 0);
    assert_int_equal(tls_open(&d->tls, d->identity, &e), 0);
}

static void close_device(struct device *d)
{
    char path[128];
    snprintf(path, sizeof path, "%s/device.key", d->root);
    unlink(path);
    rmdir(d->root);
    tls_close(d->tls);
    identity_close(d->identity);
}

/* A TLS session between two devices, in memory. */
struct session {
    SSL *client, *server;
    struct handshake_binding client_binding, server_binding;
};

static void open_session(struct session *s, struct device *client, struct device *server)
{
    struct error e = { 0 };
    s->client = tls_new(client->tls, false);
    s->server = tls_new(server->tls, true);
    BIO *a = NULL, *b = NULL;
    assert_int_equal(BIO_new_bio_pair(&a, 0, &b, 0), 1);
    SSL_set_bio(s->client, a, a);
    SSL_set_bio(s->server, b, b);
    assert_int_equal(tls_binding(s->client, false, client->identity, &s->client_binding, &e),
                     FAIL_STATE);
    for (int i = 0; i < 20; i++) {
        SSL_do_handshake(s->client);
        SSL_do_handshake(s->server);
    }
    assert_true(SSL_is_init_finished(s->client) && SSL_is_init_finished(s->server));
    assert_int_equal(SSL_version(s->client), TLS1_3_VERSION);
    assert_int_equal(tls_binding(s->client, false, client->identity, &s->client_binding, &e), 0);
    assert_int_equal(tls_binding(s->server, true, server->identity, &s->server_binding, &e), 0);
}

static void close_session(struct session *s)
{
    SSL_free(s->client);
    SSL_free(s->server);
}

struct fixture {
    struct device a, b, evil;
    struct session s;
    uint8_t key[CLUSTER_KEY], wrong[CLUSTER_KEY];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    open_device(&f->a);
    open_device(&f->b);
    open_device(&f->evil);
    open_session(&f->s, &f->a, &f->b);
    memset(f->key, 1, CLUSTER_KEY);
    memset(f->wrong, 2, CLUSTER_KEY);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    close_session(&f->s);
    close_device(&f->a);
    close_device(&f->b);
    close_device(&f->evil);
    free(f);
    return 0;
}

static const struct handshake by_client = { .version = HANDSHAKE_VERSION,
                                            .role = HANDSHAKE_CLIENT,
                                            .by = HANDSHAKE_BY_CLUSTER };

static void both_ends_agree_on_who_they_are(void **state)
{
    struct fixture *f = *state;
    struct error e = { 0 };
    uint8_t key[IDENTITY_KEY], one[32], two[32];
    assert_int_equal(tls_peer_key(f->s.client, key, &e), 0);
    assert_memory_equal(key, f->b.identity->public_key, IDENTITY_KEY);
    assert_int_equal(tls_peer_key(f->s.server, key, &e), 0);
    assert_memory_equal(key, f->a.identity->public_key, IDENTITY_KEY);
    assert_memory_equal(&f->s.client_binding, &f->s.server_binding,
                        sizeof(struct handshake_binding));
    assert_int_equal(tls_data_secret(f->s.client, one, &e), 0);
    assert_int_equal(tls_data_secret(f->s.server, two, &e), 0);
    assert_memory_equal(one, two, 32);
    assert_memory_not_equal(one, f->s.client_binding.exporter, 32);
}

static int check(struct fixture *f, const uint8_t *record, enum handshake_role role,
                 const uint8_t *key, struct error *e)
{
    return handshake_check(bytes_of(record, HANDSHAKE_BYTES), role, &f->s.server_binding, key, e);
}

static void the_right_key_is_accepted(void **state)
{
    struct fixture *f = *state;
    struct error e = { 0 };
    uint8_t record[HANDSHAKE_BYTES];
    struct handshake h = by_client, seen;
    handshake_make(record, &h, &f->s.client_binding, f->key);
    assert_int_equal(check(f, record, HANDSHAKE_CLIENT, f->key, &e), 0);
    h.by = HANDSHAKE_BY_INVITATION;
    memcpy(h.invitation, "\x01\x02\x03\x04\x05\x06\x07\x08", INVITATION_ID);
    handshake_make(record, &h, &f->s.client_binding, f->wrong);
    assert_int_equal(handshake_peek(&seen, bytes_of(record, sizeof record), &e), 0);
    assert_int_equal(seen.by, HANDSHAKE_BY_INVITATION);
    assert_memory_equal(seen.invitation, h.invitation, INVITATION_ID);
    assert_int_equal(check(f, record, HANDSHAKE_CLIENT, f->wrong, &e), 0);
}

static void a_wrong_key_is_refused(void **state)
{
    struct fixture *f = *state;
    struct error e = { 0 };
    uint8_t record[HANDSHAKE_BYTES];
    handshake_make(record, &by_client, &f->s.client_binding, f->wrong);
    assert_int_equal(check(f, record, HANDSHAKE_CLIENT, f->key, &e), FAIL_AUTH);
    assert_non_null(strstr(e.text, "cluster's key"));
}

static void an_altered_record_is_refused(void **state)
{
    struct fixture *f = *state;
    struct error e = { 0 };
    uint8_t record[HANDSHAKE_BYTES];
    handshake_make(record, &by_client, &f->s.client_binding, f->key);
    for (int i = 0; i < HANDSHAKE_BYTES * 8; i++) {
        record[i / 8] ^= (uint8_t)(1 << i % 8);
        int code = check(f, record, HANDSHAKE_CLIENT, f->key, &e);
        assert_true(code == FAIL_AUTH || code == FAIL_FORMAT);
        record[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    struct bytes cut = bytes_of(record, HANDSHAKE_BYTES - 1);
    assert_int_equal(handshake_check(cut, HANDSHAKE_CLIENT, &f->s.server_binding, f->key, &e),
                     FAIL_FORMAT);
}

static void a_reflected_record_is_refused(void **state)
{
    struct fixture *f = *state;
    struct error e = { 0 };
    uint8_t record[HANDSHAKE_BYTES];
    handshake_make(record, &by_client, &f->s.client_binding, f->key);
    assert_int_equal(check(f, record, HANDSHAKE_SERVER, f->key, &e), FAIL_AUTH);
}

static void a_record_of_another_session_is_refused(void **state)
{
    struct fixture *f = *state;
    struct error e = { 0 };
    uint8_t record[HANDSHAKE_BYTES];
    struct session again;
    open_session(&again, &f->a, &f->b); /* the same devices */
    handshake_make(record, &by_client, &again.client_binding, f->key);
    assert_int_equal(check(f, record, HANDSHAKE_CLIENT, f->key, &e), FAIL_AUTH);
    close_session(&again);
}

/* a - evil - b: evil relays records between its two TLS sessions. */
static void a_man_in_the_middle_is_refused(void **state)
{
    struct fixture *f = *state;
    struct error e = { 0 };
    uint8_t record[HANDSHAKE_BYTES];
    struct session left, right;
    open_session(&left, &f->a, &f->evil);
    open_session(&right, &f->evil, &f->b);
    handshake_make(record, &by_client, &left.client_binding, f->key);
    struct bytes relayed = bytes_of(record, sizeof record);
    assert_int_equal(handshake_check(relayed, HANDSHAKE_CLIENT, &right.server_binding, f->key, &e),
                     FAIL_AUTH);
    close_session(&left);
    close_session(&right);
}

static void another_version_is_named(void **state)
{
    struct fixture *f = *state;
    struct error e = { 0 };
    uint8_t record[HANDSHAKE_BYTES];
    struct handshake h = by_client;
    h.version = 77;
    handshake_make(record, &h, &f->s.client_binding, f->key);
    assert_int_equal(check(f, record, HANDSHAKE_CLIENT, f->key, &e), FAIL_UNSUPPORTED);
    assert_non_null(strstr(e.text, "77"));
    char ours[32];
    snprintf(ours, sizeof ours, "version %u", HANDSHAKE_VERSION);
    assert_non_null(strstr(e.text, ours));
    /* An outsider does not even learn our version. */
    assert_int_equal(check(f, record, HANDSHAKE_CLIENT, f->wrong, &e), FAIL_AUTH);
}

static void old_tls_and_missing_certificates_are_refused(void **state)
{
    struct fixture *f = *state;
    for (int what = 0; what < 2; what++) {
        SSL_CTX *c = SSL_CTX_new(TLS_client_method());
        if (what == 0) {
            SSL_CTX_set_max_proto_version(c, TLS1_2_VERSION);
            SSL_CTX_use_certificate(c, f->a.identity->certificate);
            SSL_CTX_use_PrivateKey(c, f->a.identity->key);
        }
        SSL *client = SSL_new(c), *server = tls_new(f->b.tls, true);
        BIO *a = NULL, *b = NULL;
        BIO_new_bio_pair(&a, 0, &b, 0);
        SSL_set_bio(client, a, a);
        SSL_set_bio(server, b, b);
        SSL_set_connect_state(client);
        for (int i = 0; i < 10; i++) {
            SSL_do_handshake(client);
            SSL_do_handshake(server);
        }
        assert_false(SSL_is_init_finished(server));
        SSL_free(client);
        SSL_free(server);
        SSL_CTX_free(c);
    }
}

/* --- tickets --- */

struct tickets {
    struct ticket_table table;
    uint8_t ticket[TICKET_BYTES], secret[TICKET_SECRET];
    uint8_t preamble[PREAMBLE_BYTES];
    struct seal_keys keys;
};

static void issue(struct fixture *f, struct tickets *t, enum seal_cipher cipher, bool must_seal)
{
    struct error e = { 0 };
    assert_int_equal(tls_data_secret(f->s.client, t->secret, &e), 0);
    struct ticket_terms terms = { .purpose = 42, .must_seal = must_seal };
    memcpy(terms.peer, f->a.identity->public_key, IDENTITY_KEY);
    assert_int_equal(tls_data_secret(f->s.server, terms.secret, &e), 0);
    assert_int_equal(ticket_issue(&t->table, &terms, 1000, t->ticket, &e), 0);
    assert_int_equal(ticket_preamble(t->preamble, &t->keys, t->ticket, t->secret, cipher, &e), 0);
    assert_int_equal(t->preamble[0], PREAMBLE_FIRST_BYTE);
}

static int redeem(struct tickets *t, uint64_t now, struct ticket_grant *g)
{
    struct error e = { 0 };
    return ticket_redeem(&t->table, bytes_of(t->preamble, PREAMBLE_BYTES), now, g, &e);
}

static void a_ticket_works_once(void **state)
{
    struct fixture *f = *state;
    struct tickets *t = calloc(1, sizeof *t);
    struct ticket_grant g = { { 0 } };
    issue(f, t, SEAL_AES_128_GCM, true);
    assert_int_equal(redeem(t, 2000, &g), 0);
    assert_true(g.purpose == 42);
    assert_memory_equal(g.peer, f->a.identity->public_key, IDENTITY_KEY);
    assert_int_equal(g.keys.cipher, SEAL_AES_128_GCM);
    assert_memory_equal(g.keys.recv_key, t->keys.send_key, 32);
    assert_memory_equal(g.keys.send_key, t->keys.recv_key, 32);
    assert_memory_equal(g.keys.recv_iv, t->keys.send_iv, 12);
    assert_memory_equal(g.keys.send_iv, t->keys.recv_iv, 12);
    assert_memory_not_equal(g.keys.send_key, g.keys.recv_key, 32);
    assert_int_equal(redeem(t, 2000, &g), FAIL_AUTH);
    free(t);
}

static void bad_tickets_are_refused(void **state)
{
    struct fixture *f = *state;
    struct tickets *t = calloc(1, sizeof *t);
    struct ticket_grant g;
    struct error e = { 0 };
    issue(f, t, SEAL_CHACHA20_POLY1305, true);
    for (int i = 0; i < PREAMBLE_BYTES * 8; i++) {
        t->preamble[i / 8] ^= (uint8_t)(1 << i % 8);
        assert_true(redeem(t, 2000, &g) < 0);
        t->preamble[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    assert_int_equal(redeem(t, 1000 + TICKET_LIFE_NS, &g), FAIL_AUTH); /* expired */
    issue(f, t, SEAL_PLAIN, true);
    assert_int_equal(redeem(t, 2000, &g), FAIL_AUTH); /* must be sealed */
    issue(f, t, SEAL_PLAIN, false);
    assert_int_equal(redeem(t, 2000, &g), 0);
    issue(f, t, SEAL_AES_128_GCM, true);
    ticket_revoke(&t->table, f->a.identity->public_key);
    assert_int_equal(redeem(t, 2000, &g), FAIL_AUTH);
    /* A stolen ticket without the control connection's secret. */
    issue(f, t, SEAL_AES_128_GCM, true);
    t->secret[0] ^= 1;
    assert_int_equal(
        ticket_preamble(t->preamble, &t->keys, t->ticket, t->secret, SEAL_AES_128_GCM, &e), 0);
    assert_int_equal(redeem(t, 2000, &g), FAIL_AUTH);
    t->secret[0] ^= 1; /* which didn't use it up */
    assert_int_equal(
        ticket_preamble(t->preamble, &t->keys, t->ticket, t->secret, SEAL_AES_128_GCM, &e), 0);
    assert_int_equal(redeem(t, 2000, &g), 0);
    assert_int_equal(ticket_redeem(&t->table, bytes_text("SHOAL"), 0, &g, &e), FAIL_FORMAT);
    free(t);
}

static void open_tickets_are_bounded(void **state)
{
    (void)state;
    struct ticket_table *t = calloc(1, sizeof *t);
    struct ticket_terms terms = { .purpose = 1 };
    uint8_t out[TICKET_BYTES];
    struct error e = { 0 };
    for (int i = 0; i < TICKET_TABLE; i++) {
        assert_int_equal(ticket_issue(t, &terms, 5, out, &e), 0);
    }
    assert_int_equal(ticket_issue(t, &terms, 5, out, &e), FAIL_LIMIT);
    assert_int_equal(ticket_issue(t, &terms, 5 + TICKET_LIFE_NS, out, &e), 0);
    free(t);
}

static void the_listener_tells_them_apart(void **state)
{
    struct fixture *f = *state;
    struct tickets *t = calloc(1, sizeof *t);
    struct error e = { 0 };
    enum listener_kind kind;
    issue(f, t, SEAL_AES_128_GCM, true);
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(listener_peek(&kind, fds[1], &e), 0);
    assert_int_equal(kind, LISTENER_UNKNOWN);
    assert_int_equal(write(fds[0], t->preamble, 10), 10);
    assert_int_equal(listener_peek(&kind, fds[1], &e), 0);
    assert_int_equal(kind, LISTENER_UNKNOWN);
    assert_int_equal(write(fds[0], t->preamble + 10, 54), 54);
    assert_int_equal(listener_peek(&kind, fds[1], &e), 0);
    assert_int_equal(kind, LISTENER_DATA);
    uint8_t all[PREAMBLE_BYTES];
    assert_int_equal(read(fds[1], all, sizeof all), PREAMBLE_BYTES);
    assert_int_equal(write(fds[0], "\x16\x03\x01", 3), 3);
    assert_int_equal(listener_peek(&kind, fds[1], &e), 0);
    assert_int_equal(kind, LISTENER_TLS);
    assert_int_equal(read(fds[1], all, sizeof all), 3);
    close(fds[0]);
    assert_int_equal(listener_peek(&kind, fds[1], &e), FAIL_CLOSED);
    close(fds[1]);
    free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ends_agree_on_who_they_are),
        cmocka_unit_test(the_right_key_is_accepted),
        cmocka_unit_test(a_wrong_key_is_refused),
        cmocka_unit_test(an_altered_record_is_refused),
        cmocka_unit_test(a_reflected_record_is_refused),
        cmocka_unit_test(a_record_of_another_session_is_refused),
        cmocka_unit_test(a_man_in_the_middle_is_refused),
        cmocka_unit_test(another_version_is_named),
        cmocka_unit_test(old_tls_and_missing_certificates_are_refused),
        cmocka_unit_test(a_ticket_works_once),
        cmocka_unit_test(bad_tickets_are_refused),
        cmocka_unit_test(open_tickets_are_bounded),
        cmocka_unit_test(the_listener_tells_them_apart),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
