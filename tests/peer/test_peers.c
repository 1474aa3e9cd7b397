/* Two devices of the peer layer alone, over loopback: links that cross, ends that are told later.
 */
#include "tests/test.h"

#include "os/clock.h"
#include "os/file.h"
#include "os/log.h"
#include "peer/peer.h"
#include "peer/stream.h"
#include "secure/identity.h"
#include "transport/transport.h"

#include <event2/event.h>
#include <stdio.h>
#include <unistd.h>

#define TICK_NS (CLOCK_NS_PER_S / 4)

struct end {
    char home[128];
    struct peers *peers;
    struct channel *came, *opened;
    char failure[ERROR_TEXT];
    int joined, lost;
    struct peer_reply *reply;
    size_t bytes;
    bool ended;
    bool busy; /* within a call of the test's */
};

struct fixture {
    struct event_base *base;
    char root[64];
    struct end ends[2];
    struct loop_time time;
};

static json_t *facts(void *arg)
{
    (void)arg;
    return json_object();
}

static int take_facts(void *arg, struct peer *from, const json_t *m, struct error *e)
{
    return 0;
}

static void joined(void *arg, struct peer *p)
{
    ((struct end *)arg)->joined++;
}

static void lost(void *arg, struct peer *p, const char *why)
{
    struct end *end = arg;
    assert_false(end->busy);
    end->lost++;
}

static void forgotten(void *arg, struct peer *p)
{
}

static bool keep(void *arg, struct peer *p, struct peer *says)
{
    return false;
}

static bool may_send(void *arg, const struct peer *from, int sender)
{
    return false;
}

static void answer(void *arg, struct peer *from, const struct peer_request *q,
                   struct peer_reply *reply);

static const struct peer_events events = { .facts = facts,
                                           .take_facts = take_facts,
                                           .joined = joined,
                                           .lost = lost,
                                           .forgotten = forgotten,
                                           .keep = keep,
                                           .request = answer,
                                           .may_send = may_send };

static int awaits(void *arg, struct peer *from, const struct channel_purpose *p,
                  size_t *max_message, struct error *e)
{
    *max_message = 1000;
    return p->index < 2 ? 0 : fail(e, FAIL_NOT_FOUND, "nobody waits for it");
}

static void came(void *arg, const struct channel_purpose *p, struct channel *channel)
{
    ((struct end *)arg)->came = channel;
}

static void opened(void *arg, const struct channel_purpose *p, struct channel *channel,
                   const struct error *error)
{
    struct end *end = arg;
    assert_false(end->busy);
    end->opened = channel;
    snprintf(end->failure, sizeof end->failure, "%s", error != NULL ? error->text : "");
}

static const struct channel_owner channels = { awaits, came, opened };

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    uint8_t key[CLUSTER_KEY];
    struct error e = { 0 };
    f->base = event_base_new();
    snprintf(f->root, sizeof f->root, "/tmp/shoal-test-XXXXXX");
    assert_non_null(mkdtemp(f->root));
    log_set_level(LOG_ERROR);
    loop_time_turn(&f->time, clock_now_ns(), TICK_NS);
    for (int i = 0; i < 2; i++) {
        struct end *end = &f->ends[i];
        snprintf(end->home, sizeof end->home, "%s/%d", f->root, i);
        assert_int_equal(i == 0 ? cluster_key_create(key, end->home, &e)
                                : cluster_key_store(key, end->home, &e),
                         0);
        assert_int_equal(peers_open(&end->peers,
                                    &(struct peers_options){ .base = f->base,
                                                             .now_ns = f->time.now_ns,
                                                             .home = end->home,
                                                             .name = i == 0 ? "A" : "B",
                                                             .events = &events,
                                                             .channels = &channels,
                                                             .seal = true,
                                                             .arg = end },
                                    &e),
                         0);
    }
    *state = f;
    return 0;
}

static bool remove_one(void *folder, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", (const char *)folder, name);
    unlink(path);
    return true;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        struct end *end = &f->ends[i];
        channel_close(end->came);
        channel_close(end->opened);
        peers_close(end->peers);
        file_list(end->home, remove_one, end->home, NULL);
        rmdir(end->home);
    }
    rmdir(f->root);
    event_base_free(f->base);
    free(f);
    return 0;
}

static struct peer *other(struct fixture *f, int i)
{
    char address[ADDRESS_TEXT];
    struct peers *to = f->ends[1 - i].peers;
    address_join("127.0.0.1", peers_port(to), address);
    return peers_add(f->ends[i].peers, peer_id(peers_self(to)), address);
}

static void turn(struct fixture *f)
{
    const struct timeval pause = { 0, 1000 };
    event_base_loopexit(f->base, &pause);
    event_base_dispatch(f->base);
    uint64_t before = f->time.clock_ns;
    if (clock_now_ns() - before >= TICK_NS / 10) {
        loop_time_turn(&f->time, clock_now_ns(), TICK_NS);
        for (int i = 0; i < 2; i++) {
            if (f->ends[i].peers != NULL) {
                peers_tick(f->ends[i].peers, f->time.now_ns);
            }
        }
    }
}

static bool all_here(const struct fixture *f)
{
    bool here = true;
    for (int i = 0; i < 2; i++) {
        here = here && f->ends[i].came != NULL && f->ends[i].opened != NULL;
    }
    return here;
}

/* Both open a channel to the other at once, so both dial: one link is chosen before either is used,
 * and both channels come over it. */
static void links_that_cross_lose_nothing(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        f->ends[i].busy = true;
        peer_channel_open(other(f, i), &(struct channel_purpose){ 7, 1, i }, 1000);
        f->ends[i].busy = false;
    }
    uint64_t until = clock_deadline(10 * CLOCK_NS_PER_S);
    while (!all_here(f) && f->ends[0].failure[0] == '\0' && f->ends[1].failure[0] == '\0' &&
           clock_now_ns() < until) {
        turn(f);
    }
    assert_string_equal(f->ends[0].failure, "");
    assert_string_equal(f->ends[1].failure, "");
    assert_true(all_here(f));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(f->ends[i].joined, 1);
        assert_int_equal(f->ends[i].lost, 0);
        assert_int_equal(channel_max_message(f->ends[i].came), 1000);
        assert_int_equal(channel_max_message(f->ends[i].opened), 1000);
    }
}

static void link_up(struct fixture *f)
{
    peer_channel_open(other(f, 0), &(struct channel_purpose){ 7, 1, 0 }, 1000);
    uint64_t until = clock_deadline(10 * CLOCK_NS_PER_S);
    while (f->ends[0].opened == NULL && clock_now_ns() < until) {
        turn(f);
    }
    assert_non_null(f->ends[0].opened);
}

/* What nobody reads ends a link, but the sender's loop goes on: the end is told in the next turn.
 */
static void an_end_is_told_in_a_turn_of_its_own(void **state)
{
    struct fixture *f = *state;
    link_up(f);
    struct peer *p = other(f, 0);
    char *text = malloc(1u << 19);
    memset(text, 'x', (1u << 19) - 1);
    text[(1u << 19) - 1] = '\0';
    f->ends[0].busy = true;
    for (int i = 0; i < 200; i++) { /* 100 MB, more than a link holds */
        peer_send(p, json_pack("{s:s, s:s}", "type", "nothing", "text", text));
    }
    assert_false(peer_alive(p)); /* marked at once */
    assert_int_equal(f->ends[0].lost, 0);
    f->ends[0].busy = false;
    uint64_t until = clock_deadline(10 * CLOCK_NS_PER_S);
    while (f->ends[0].lost == 0 && clock_now_ns() < until) {
        turn(f);
    }
    assert_int_equal(f->ends[0].lost, 1);
    free(text);
}

/* A channel that the other end does not await fails with its words, later. */
static void an_unawaited_channel_says_so(void **state)
{
    struct fixture *f = *state;
    link_up(f);
    channel_close(f->ends[0].opened);
    f->ends[0].opened = NULL;
    peer_channel_open(other(f, 0), &(struct channel_purpose){ 7, 1, 5 }, 1000);
    uint64_t until = clock_deadline(10 * CLOCK_NS_PER_S);
    while (f->ends[0].failure[0] == '\0' && clock_now_ns() < until) {
        turn(f);
    }
    assert_non_null(strstr(f->ends[0].failure, "nobody waits for it"));
}

/* Names that a member invents fill no table: who is linked or kept stays. */
static void invented_devices_make_room(void **state)
{
    struct fixture *f = *state;
    link_up(f);
    struct peers *all = f->ends[0].peers;
    for (int i = 0; i < 5 * PEERS_MAX; i++) {
        char id[PEER_ID_TEXT];
        snprintf(id, sizeof id, "%064d", i);
        assert_non_null(peers_add(all, id, "10.0.0.1:1"));
        assert_true(peers_count(all) <= PEERS_MAX);
    }
    assert_true(peer_alive(other(f, 0)));
    assert_ptr_equal(peers_at(all, 0), peers_self(all));
}

/* --- requests that travel --- */

/* More of one answer than a link may have waiting for all. */
static void answer_large(struct peer_reply *reply, int n)
{
    int32_t *prompt = malloc((size_t)n * sizeof *prompt);
    assert_non_null(prompt);
    for (int i = 0; i < n; i++) {
        prompt[i] = INT32_MAX - i;
    }
    const struct stream_log log = { .prompt = prompt, .n_prompt = n };
    assert_int_equal(peer_reply_log(reply, &log), n > STREAM_MAX_IDS ? FAIL_LIMIT : 0);
    peer_reply_begin(reply, 200, "text/event-stream");
    assert_int_equal(peer_reply_write(reply, bytes_text("data")), 0);
    free(prompt);
}

static void answer(void *arg, struct peer *from, const struct peer_request *q,
                   struct peer_reply *reply)
{
    struct end *end = arg;
    if (strcmp(q->path, "/v1/x") != 0) {
        answer_large(reply, STREAM_MAX_IDS + (strcmp(q->path, "/more") == 0));
        return;
    }
    int32_t prompt[20000];
    for (int i = 0; i < 20000; i++) {
        prompt[i] = i;
    }
    peer_reply_begin(reply, 200, "text/event-stream");
    assert_int_equal(
        peer_reply_log(
            reply, &(struct stream_log){ .prompt = prompt, .n_prompt = 20000, .seed = UINT64_MAX }),
        0);
    for (int i = 0; i < 3; i++) {
        const int32_t id = 100 + i;
        assert_int_equal(
            peer_reply_log(reply, &(struct stream_log){ .ids = &id, .n_ids = 1, .seed = 9 }), 0);
        assert_int_equal(peer_reply_write(reply, bytes_text("data")), 0);
    }
    end->reply = reply;
}

static void answered_begin(void *arg, int status, const char *type)
{
    assert_int_equal(status, 200);
}

static void answered_write(void *arg, struct bytes data)
{
    ((struct end *)arg)->bytes += data.size;
}

static void answered_end(void *arg)
{
    ((struct end *)arg)->ended = true;
}

static void answered_failed(void *arg, const struct error *e)
{
    struct end *end = arg;
    assert_false(end->busy);
    snprintf(end->failure, sizeof end->failure, "%s", e->text);
}

/* The gateway has what the answer is made of and how far it came: with it another device can go on
 * once this one is lost. */
static void a_gateway_keeps_what_an_answer_is_made_of(void **state)
{
    struct fixture *f = *state;
    struct peer_ask *ask = NULL;
    struct error e = { 0 };
    struct stream_log log;
    uint64_t bytes = 0;
    const struct peer_sink sink = { answered_begin, answered_write, answered_end, answered_failed,
                                    &f->ends[0] };
    link_up(f);
    assert_int_equal(peer_ask(other(f, 0),
                              &(struct peer_request){ "POST", "/v1/x", bytes_text("{}") }, &sink,
                              &ask, &e),
                     0);
    uint64_t until = clock_deadline(10 * CLOCK_NS_PER_S);
    while (f->ends[0].bytes < 12 && clock_now_ns() < until) {
        turn(f);
    }
    assert_true(peer_ask_log(ask, &log, &bytes));
    assert_int_equal(bytes, 12);
    assert_int_equal(log.n_prompt, 20000);
    assert_int_equal(log.prompt[19999], 19999);
    assert_int_equal(log.n_ids, 3);
    assert_int_equal(log.ids[0], 100);
    assert_int_equal(log.ids[2], 102);
    assert_int_equal(log.seed, 9);
    peers_close(f->ends[1].peers);
    f->ends[1].peers = NULL;
    while (f->ends[0].failure[0] == '\0' && clock_now_ns() < until) {
        turn(f);
    }
    assert_false(f->ends[0].ended);
    assert_true(f->ends[0].failure[0] != '\0');
}

/* Six of 12 MB each, at once: they wait in their own queues, and the link goes on. */
static void long_logs_end_no_link(void **state)
{
    struct fixture *f = *state;
    struct peer_ask *asks[6], *more = NULL;
    struct stream_log log;
    uint64_t bytes = 0;
    const struct peer_sink sink = { answered_begin, answered_write, answered_end, answered_failed,
                                    &f->ends[0] };
    link_up(f);
    for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
        const struct peer_request q = { "POST", "/large", bytes_text("{}") };
        assert_int_equal(peer_ask(other(f, 0), &q, &sink, &asks[i], NULL), 0);
    }
    const struct peer_request q = { "POST", "/more", bytes_text("{}") };
    assert_int_equal(peer_ask(other(f, 0), &q, &sink, &more, NULL), 0);
    uint64_t until = clock_deadline(60 * CLOCK_NS_PER_S);
    while (f->ends[0].bytes < 7 * 4 && f->ends[0].failure[0] == '\0' && clock_now_ns() < until) {
        turn(f);
    }
    assert_string_equal(f->ends[0].failure, "");
    assert_int_equal(f->ends[0].bytes, 7 * 4);
    for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
        assert_true(peer_ask_log(asks[i], &log, &bytes));
        assert_int_equal(log.n_prompt, STREAM_MAX_IDS);
        assert_int_equal(log.prompt[STREAM_MAX_IDS - 1], INT32_MAX - STREAM_MAX_IDS + 1);
        peer_ask_cancel(asks[i]);
    }
    assert_false(peer_ask_log(more, &log, &bytes)); /* and says so */
    peer_ask_cancel(more);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(links_that_cross_lose_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_end_is_told_in_a_turn_of_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_unawaited_channel_says_so, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_gateway_keeps_what_an_answer_is_made_of, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(long_logs_end_no_link, set_up, tear_down),
        cmocka_unit_test_setup_teardown(invented_devices_make_room, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("peers", tests, NULL, NULL);
}
