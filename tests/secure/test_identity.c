/* Device keys, the cluster key, texts, invitations. */
#include "tests/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hex.h"
#include "os/file.h"
#include "secure/identity.h"
#include "secure/invitation.h"
#include "secure/text.h"

struct home {
    char root[64], path[96], file[160];
};

static int set_up(void **state)
{
    struct home *h = calloc(1, sizeof *h);
    snprintf(h->root, sizeof h->root, "/tmp/shoal-test-XXXXXX");
    if (h == NULL || mkdtemp(h->root) == NULL) {
        return -1;
    }
    snprintf(h->path, sizeof h->path, "%s/home", h->root);
    *state = h;
    return 0;
}

static const char *in_home(struct home *h, const char *name)
{
    snprintf(h->file, sizeof h->file, "%s/%s", h->path, name);
    return h->file;
}

static int tear_down(void **state)
{
    struct home *h = *state;
    static const char *const names[] = { "device.key",       "cluster.key", "invitations",
                                         "invitations.lock", "head",        "device.lock",
                                         "cluster.key.old",  "cluster.own" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        unlink(in_home(h, names[i]));
    }
    rmdir(h->path);
    rmdir(h->root);
    free(h);
    return 0;
}

static void a_device_keeps_its_key(void **state)
{
    struct home *h = *state;
    struct error e = { 0 };
    struct identity *first = NULL, *second = NULL;
    assert_int_equal(identity_open(&first, h->path, &e), 0);
    assert_int_equal(identity_open(&second, h->path, &e), 0);
    assert_string_equal(first->id, second->id);
    assert_int_equal(strlen(first->id), 64);
    char id[IDENTITY_TEXT], brief[IDENTITY_SHORT];
    identity_format(id, second->public_key);
    assert_string_equal(id, first->id);
    identity_short(brief, id);
    assert_int_equal(strlen(brief), 8);
    struct stat s;
    assert_int_equal(stat(in_home(h, "device.key"), &s), 0);
    assert_int_equal(s.st_mode & 0777, 0600);
    assert_int_equal(stat(h->path, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0700);
    identity_close(first);
    identity_close(second);
    identity_close(NULL);
}

static void a_home_is_held_by_one(void **state)
{
    struct home *h = *state;
    struct error e = { 0 };
    struct invitation invitation;
    int first = -1, second = -1;
    assert_int_equal(home_hold(&first, h->path, &e), 0);
    assert_int_equal(home_hold(&second, h->path, &e), FAIL_BUSY);
    assert_int_equal(second, -1);
    assert_non_null(strstr(e.text, h->path));
    assert_non_null(strstr(e.text, "--home"));
    /* Commands work beside it. */
    assert_int_equal(invitation_create(&invitation, h->path, 1000, 1, &e), 0);
    home_release(first);
    assert_int_equal(home_hold(&second, h->path, &e), 0);
    home_release(second);
    home_release(-1);
}

/* A device looks invitations up while it serves: it must not wait for whoever holds the lock. */
static void a_held_lock_delays_no_device(void **state)
{
    struct home *h = *state;
    struct error e = { 0 };
    struct invitation i;
    uint8_t key[INVITATION_KEY];
    assert_int_equal(invitation_create(&i, h->path, 1000, 1, &e), 0);
    int lock = open(in_home(h, "invitations.lock"), O_RDWR | O_CLOEXEC);
    assert_true(lock >= 0);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    assert_int_equal(invitation_find(key, h->path, i.id, 1000, &e), 0);
    assert_memory_equal(key, i.key, sizeof key);
    assert_int_equal(invitation_redeem(h->path, i.id, 1000, &e), FAIL_BUSY);
    close(lock);
    assert_int_equal(invitation_redeem(h->path, i.id, 1000, &e), 0);
    assert_int_equal(invitation_find(key, h->path, i.id, 1000, &e), FAIL_NOT_FOUND);
}

static void an_invitation_names_its_head(void **state)
{
    struct home *h = *state;
    struct error e = { 0 };
    struct invitation i, back;
    struct identity *id = NULL;
    uint8_t key[CLUSTER_KEY];
    char text[INVITATION_TEXT], head[IDENTITY_TEXT], line[IDENTITY_TEXT + 20];
    assert_int_equal(identity_open(&id, h->path, &e), 0);
    assert_int_equal(invitation_create(&i, h->path, 1000, 1, &e), 0);
    invitation_name_head(&i, h->path);
    assert_false(i.has_head); /* nobody is known yet */
    assert_int_equal(cluster_key_create(key, h->path, &e), 0);
    invitation_name_head(&i, h->path);
    assert_true(i.has_head); /* the device that made the key */
    invitation_format(text, &i);
    assert_int_equal(invitation_parse(&back, bytes_text(text), &e), 0);
    assert_true(back.has_head);
    hex_format(head, back.head, sizeof back.head);
    assert_string_equal(head, id->id);
    /* At a member it is whom the member follows. */
    unlink(in_home(h, "cluster.own"));
    memset(head, 'a', 64);
    snprintf(line, sizeof line, "%s mark\n", head);
    assert_int_equal(file_write_atomic(in_home(h, "head"), bytes_text(line), 0600, &e), 0);
    invitation_name_head(&i, h->path);
    assert_true(i.has_head);
    assert_int_equal(i.head[0], 0xaa);
    identity_close(id);
}

static void damaged_and_open_keys_are_refused(void **state)
{
    struct home *h = *state;
    struct error e = { 0 };
    struct identity *id = NULL;
    assert_int_equal(identity_open(&id, h->path, &e), 0);
    identity_close(id);
    id = NULL;
    chmod(in_home(h, "device.key"), 0644);
    assert_int_equal(identity_open(&id, h->path, &e), FAIL_AUTH);
    assert_non_null(strstr(e.text, "chmod 600"));
    FILE *f = fopen(h->file, "w");
    fputs("garbage\n", f);
    fclose(f);
    chmod(h->file, 0600);
    assert_int_equal(identity_open(&id, h->path, &e), FAIL_FORMAT);
    assert_null(id);
}

static void the_cluster_key_is_made_once(void **state)
{
    struct home *h = *state;
    struct error e = { 0 };
    uint8_t one[CLUSTER_KEY], two[CLUSTER_KEY];
    assert_int_equal(cluster_key_load(one, h->path, &e), FAIL_NOT_FOUND);
    assert_false(cluster_key_is_own(h->path));
    assert_int_equal(cluster_key_create(one, h->path, &e), 0);
    assert_int_equal(cluster_key_create(two, h->path, &e), 0);
    assert_memory_equal(one, two, CLUSTER_KEY);
    assert_true(cluster_key_is_own(h->path));
    memset(one, 7, CLUSTER_KEY);
    for (int i = 0; i < 2; i++) { /* what was its own is kept once, not replaced by a given one */
        assert_int_equal(cluster_key_store(one, h->path, &e), 0);
        assert_false(cluster_key_is_own(h->path));
    }
    FILE *old = fopen(in_home(h, "cluster.key.old"), "r");
    char kept[2 * CLUSTER_KEY + 1] = "", made[2 * CLUSTER_KEY + 1];
    assert_non_null(old);
    assert_non_null(fgets(kept, sizeof kept, old));
    fclose(old);
    hex_format(made, two, CLUSTER_KEY);
    assert_string_equal(kept, made);
    assert_int_equal(cluster_key_load(two, h->path, &e), 0);
    assert_memory_equal(one, two, CLUSTER_KEY);
    FILE *f = fopen(in_home(h, "cluster.key"), "w");
    fputs("0123\n", f);
    fclose(f);
    assert_int_equal(cluster_key_load(two, h->path, &e), FAIL_FORMAT);
}

static void texts_are_reversible(void **state)
{
    (void)state;
    uint8_t data[32], back[32];
    char text[70];
    for (size_t n = 0; n <= sizeof data; n++) {
        size_t size = 99;
        for (size_t i = 0; i < n; i++) {
            data[i] = (uint8_t)(i * 37 + n);
        }
        base64url_format(text, data, n);
        assert_int_equal(strlen(text), base64url_size(n));
        assert_true(base64url_parse(back, sizeof back, &size, bytes_text(text)));
        assert_int_equal(size, n);
        assert_memory_equal(back, data, n);
        hex_format(text, data, n);
        assert_true(hex_parse(back, n, bytes_text(text)));
        assert_memory_equal(back, data, n);
    }
    size_t size = 0;
    base64url_format(text, (const uint8_t *)"\xfb\xff", 2); /* of RFC 4648's alphabet */
    assert_string_equal(text, "-_8");
    assert_false(base64url_parse(back, 32, &size, bytes_text("A")));
    assert_false(base64url_parse(back, 32, &size, bytes_text("AB"))); /* bits left over */
    assert_false(base64url_parse(back, 32, &size, bytes_text("A+AA")));
    assert_false(base64url_parse(back, 2, &size, bytes_text("AAAA"))); /* too long */
    assert_false(hex_parse(back, 1, bytes_text("0g")));
    assert_false(hex_parse(back, 1, bytes_text("0")));
}

static void an_invitation_works_once(void **state)
{
    struct home *h = *state;
    struct error e = { 0 };
    struct invitation made, read;
    assert_int_equal(invitation_create(&made, h->path, 1000, 2, &e), 0);
    assert_true(made.expires_s == 1000 + 7200);
    made.n_addresses = 2;
    snprintf(made.addresses[0], INVITATION_ADDRESS_TEXT, "192.168.1.20:8421");
    snprintf(made.addresses[1], INVITATION_ADDRESS_TEXT, "[fe80::1]:8421");
    char text[INVITATION_TEXT];
    invitation_format(text, &made);
    assert_int_equal(invitation_parse(&read, bytes_text(text), &e), 0);
    assert_memory_equal(read.id, made.id, INVITATION_ID);
    assert_memory_equal(read.key, made.key, INVITATION_KEY);
    assert_string_equal(read.addresses[1], made.addresses[1]);
    uint8_t key[INVITATION_KEY];
    assert_int_equal(invitation_find(key, h->path, read.id, 1001, &e), 0);
    assert_memory_equal(key, made.key, INVITATION_KEY);
    assert_int_equal(invitation_find(key, h->path, read.id, 1000 + 7200, &e), FAIL_AUTH);
    assert_int_equal(invitation_redeem(h->path, read.id, 1001, &e), 0);
    assert_int_equal(invitation_redeem(h->path, read.id, 1001, &e), FAIL_NOT_FOUND);
    assert_int_equal(invitation_find(key, h->path, read.id, 1001, &e), FAIL_NOT_FOUND);
}

static void open_invitations_are_bounded(void **state)
{
    struct home *h = *state;
    struct error e = { 0 };
    struct invitation i;
    for (int k = 0; k < INVITATION_MAX; k++) {
        assert_int_equal(invitation_create(&i, h->path, 1000, 1, &e), 0);
    }
    assert_int_equal(invitation_create(&i, h->path, 1000, 1, &e), FAIL_LIMIT);
    assert_int_equal(invitation_create(&i, h->path, 1000 + 3600, 1, &e), 0); /* others expired */
    assert_int_equal(invitation_create(&i, h->path, 1000, 0, &e), FAIL_RANGE);
    FILE *f = fopen(in_home(h, "invitations"), "w");
    fputs("nonsense\n", f);
    fclose(f);
    assert_int_equal(invitation_create(&i, h->path, 1000, 1, &e), FAIL_FORMAT);
}

static void changed_invitations_are_refused(void **state)
{
    (void)state;
    struct error e = { 0 };
    struct invitation i = { .n_addresses = 4 };
    for (int a = 0; a < 4; a++) {
        memset(i.addresses[a], 'x', INVITATION_ADDRESS_TEXT - 1);
    }
    char text[INVITATION_TEXT];
    invitation_format(text, &i); /* the longest */
    struct invitation back;
    assert_int_equal(invitation_parse(&back, bytes_text(text), &e), 0);
    for (size_t n = 0; n < strlen(text); n++) {
        assert_true(invitation_parse(&back, bytes_of(text, n), &e) < 0);
    }
    assert_int_equal(invitation_parse(&back, bytes_text("shoal2:AAAA"), &e), FAIL_FORMAT);
    assert_int_equal(invitation_parse(&back, bytes_text("shoal1:A!AA"), &e), FAIL_FORMAT);
    i.addresses[0][3] = ' ';
    invitation_format(text, &i);
    assert_int_equal(invitation_parse(&back, bytes_text(text), &e), FAIL_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_device_keeps_its_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_home_is_held_by_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_held_lock_delays_no_device, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_invitation_names_its_head, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_and_open_keys_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_cluster_key_is_made_once, set_up, tear_down),
        cmocka_unit_test(texts_are_reversible),
        cmocka_unit_test_setup_teardown(an_invitation_works_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(open_invitations_are_bounded, set_up, tear_down),
        cmocka_unit_test(changed_invitations_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
