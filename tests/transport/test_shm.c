/* How shared memory is handed over, and what is refused. What its channels do: test_channel.c. */
#include "tests/transport/letter.h"
#include "tests/transport/pairs.h"

#include <dirent.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct door {
    int listener;
    char token[SHM_TOKEN];
};

static int open_door(void **state)
{
    struct door *d = calloc(1, sizeof *d);
    struct error e = { 0 };
    assert_int_equal(shm_listen(&d->listener, d->token, &e), 0);
    *state = d;
    return 0;
}

static int close_door(void **state)
{
    struct door *d = *state;
    tcp_close(d->listener);
    free(d);
    return 0;
}

static int count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;
    while (readdir(dir) != NULL) {
        n++;
    }
    closedir(dir);
    return n;
}

/* A stranger's socket: it knows the name, as everybody can, but not the secret. */
static int stranger(const struct door *d)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    memcpy(a.sun_path + 1, "shoal-", 6);
    memcpy(a.sun_path + 7, d->token + 5, 32);
    assert_int_equal(connect(fd, (struct sockaddr *)&a,
                             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 7 + 32)),
                     0);
    return fd;
}

static void strangers_are_neither_heard_nor_in_the_way(void **state)
{
    struct door *d = *state;
    struct error e = { 0 };
    struct shm_parcel parcel;
    uint8_t noise[200] = { 0 };
    int fd = stranger(d);
    for (int i = 0; i < 1000; i++) { /* far more than the queue holds */
        letter_send(fd, bytes_of(noise, (size_t)i % sizeof noise), &fd, 1);
    }
    assert_int_equal(shm_take(&parcel, d->listener, &e), FAIL_TIMEOUT);
    struct shm_offer *offer = NULL;
    assert_int_equal(shm_offer(&offer, d->token, shm_preamble, NULL, &e), 0);
    assert_int_equal(shm_take(&parcel, d->listener, &e), 0);
    shm_refuse(&parcel);
    shm_offer_close(offer);
    close(fd);
}

static void a_wrong_secret_gets_nothing(void **state)
{
    struct door *d = *state;
    struct error e = { 0 };
    struct channel *ch = NULL;
    struct shm_parcel parcel;
    struct shm_offer *offer = NULL;
    char *digit = &d->token[strlen(d->token) - 1];
    *digit = *digit == '0' ? '1' : '0';
    assert_int_equal(shm_offer(&offer, d->token, shm_preamble, NULL, &e), 0);
    assert_int_equal(shm_take(&parcel, d->listener, &e), FAIL_TIMEOUT);
    assert_int_equal(shm_finish(&ch, offer, &e), FAIL_CLOSED);
    assert_null(ch);
}

static void foreign_tokens_are_refused(void **state)
{
    struct door *d = *state;
    struct error e = { 0 };
    struct shm_offer *offer = NULL;
    static const char not_hex[] = "shm1:zz0000000000000000000000000000000000000000000000000000"
                                  "00000000";
    static const char *const bad[] = { "", "shm1:", "shm1:00", "shm2:00", not_hex };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(shm_offer(&offer, bad[i], shm_preamble, NULL, &e), FAIL_FORMAT);
    }
    struct channel_options odd = { .ring_bytes = 5000 };
    assert_int_equal(shm_offer(&offer, d->token, shm_preamble, &odd, &e), FAIL_ARG);
    tcp_close(d->listener);
    d->listener = -1;
    assert_int_equal(shm_offer(&offer, d->token, shm_preamble, NULL, &e), FAIL_NOT_FOUND);
    assert_null(offer);
}

/* Everything that is not a whole parcel is dropped, with the descriptors that came with it. */
static void what_is_not_whole_is_dropped(void **state)
{
    struct door *d = *state;
    struct error e = { 0 };
    struct shm_parcel parcel;
    uint8_t letter[97] = { 0 }; /* one byte more than a letter */
    for (size_t i = 0; i < 16; i++) {
        unsigned byte = 0;
        assert_int_equal(sscanf(d->token + 5 + 32 + 2 * i, "%2x", &byte), 1);
        letter[i] = (uint8_t)byte;
    }
    int to = stranger(d), fds[3] = { to, to, to }, before = count_descriptors();
    static const struct {
        size_t size, n;
    } cases[] = { { 16, 0 }, { 95, 2 }, { 97, 2 }, { 96, 0 }, { 96, 1 }, { 96, 3 } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        letter_send(to, bytes_of(letter, cases[i].size), fds, cases[i].n);
        assert_int_equal(shm_take(&parcel, d->listener, &e), FAIL_FORMAT);
        assert_int_equal(count_descriptors(), before);
    }
    /* Descriptors of other things than memory. */
    letter_send(to, bytes_of(letter, 96), fds, 2);
    assert_int_equal(shm_take(&parcel, d->listener, &e), 0);
    struct channel *ch = NULL;
    assert_int_equal(shm_join(&ch, &parcel, shm_answer, NULL, &e), FAIL_ARG); /* rings of 0 bytes */
    letter[17] = 0x10;                                                        /* of 4096 */
    letter_send(to, bytes_of(letter, 96), fds, 2);
    assert_int_equal(shm_take(&parcel, d->listener, &e), 0);
    assert_int_equal(shm_join(&ch, &parcel, shm_answer, NULL, &e), FAIL_FORMAT);
    /* Memory that its maker could cut off later. */
    fds[1] = memfd_create("test", MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(fds[1], 1 << 20), 0);
    letter_send(to, bytes_of(letter, 96), fds, 2);
    close(fds[1]);
    assert_int_equal(shm_take(&parcel, d->listener, &e), 0);
    assert_int_equal(shm_join(&ch, &parcel, shm_answer, NULL, &e), FAIL_FORMAT);
    assert_non_null(strstr(e.text, "not sealed"));
    assert_int_equal(count_descriptors(), before);
    close(to);
}

static void a_refused_offer_is_told(void **state)
{
    struct door *d = *state;
    struct error e = { 0 };
    struct channel *ch = NULL;
    struct shm_parcel parcel;
    struct shm_offer *offer = NULL;
    int before = count_descriptors();
    assert_int_equal(shm_offer(&offer, d->token, shm_preamble, NULL, &e), 0);
    assert_int_equal(shm_take(&parcel, d->listener, &e), 0);
    shm_refuse(&parcel);
    assert_int_equal(shm_finish(&ch, offer, &e), FAIL_CLOSED);
    /* The two must agree on the largest message. */
    struct channel_options small = { .max_message = 100 };
    assert_int_equal(shm_offer(&offer, d->token, shm_preamble, &small, &e), 0);
    assert_int_equal(shm_take(&parcel, d->listener, &e), 0);
    assert_int_equal(shm_join(&ch, &parcel, shm_answer, NULL, &e), FAIL_ARG);
    assert_int_equal(shm_finish(&ch, offer, &e), FAIL_CLOSED);
    /* The offerer has gone meanwhile. */
    assert_int_equal(shm_offer(&offer, d->token, shm_preamble, NULL, &e), 0);
    assert_int_equal(shm_take(&parcel, d->listener, &e), 0);
    shm_offer_close(offer);
    assert_int_equal(shm_join(&ch, &parcel, shm_answer, NULL, &e), FAIL_CLOSED);
    assert_null(ch);
    assert_int_equal(count_descriptors(), before);
}

/* A process that took the name of one that is gone, or has the token: it has no ticket. */
static void another_answer_is_noticed(void **state)
{
    struct door *d = *state;
    struct error e = { 0 };
    struct channel *ch = NULL, *other = NULL;
    struct shm_parcel parcel;
    struct shm_offer *offer = NULL;
    uint8_t answer[SHM_ANSWER];
    memcpy(answer, shm_answer, sizeof answer);
    answer[SHM_ANSWER - 1] ^= 1;
    assert_int_equal(shm_offer(&offer, d->token, shm_preamble, NULL, &e), 0);
    assert_int_equal(shm_take(&parcel, d->listener, &e), 0);
    assert_int_equal(shm_join(&other, &parcel, answer, NULL, &e), 0);
    assert_int_equal(shm_finish(&ch, offer, &e), FAIL_AUTH);
    assert_null(ch);
    char in[8];
    size_t size = 0;
    assert_int_equal(channel_recv(other, in, sizeof in, &size, SOON, &e), FAIL_CLOSED);
    channel_close(other);
}

static void a_full_door_is_busy(void **state)
{
    struct door *d = *state;
    struct error e = { 0 };
    struct shm_parcel parcel;
    struct shm_offer *offers[1024];
    int n = 0, code = 0, before = count_descriptors();
    while (n < (int)ARRAY_LEN(offers) &&
           (code = shm_offer(&offers[n], d->token, shm_preamble, NULL, &e)) == 0) {
        n++;
    }
    assert_int_equal(code, FAIL_BUSY);
    for (int i = 0; i < n; i++) {
        assert_int_equal(shm_take(&parcel, d->listener, &e), 0);
        shm_refuse(&parcel);
        shm_offer_close(offers[i]);
    }
    assert_int_equal(shm_take(&parcel, d->listener, &e), FAIL_TIMEOUT);
    assert_int_equal(count_descriptors(), before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_door, close_door)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(strangers_are_neither_heard_nor_in_the_way),
        TEST(a_wrong_secret_gets_nothing),
        TEST(foreign_tokens_are_refused),
        TEST(what_is_not_whole_is_dropped),
        TEST(a_refused_offer_is_told),
        TEST(another_answer_is_noticed),
        TEST(a_full_door_is_busy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
