/* What is allowed is remembered. */
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "node/allowed.h"
#include "os/file.h"

static int open_with(struct allowed *a, const char *home, const char *origin, const char *host)
{
    struct error e = { 0 };
    const struct allowed_more more = { &origin, origin != NULL, &host, host != NULL };
    return allowed_open(a, home, &more, &e);
}

static void what_is_allowed_is_remembered(void **state)
{
    char home[] = "/tmp/shoal-allowed-XXXXXX", path[64];
    struct allowed a;
    assert_non_null(mkdtemp(home));
    snprintf(path, sizeof path, "%s/allowed.json", home);
    assert_int_equal(open_with(&a, home, NULL, NULL), 0);
    assert_int_equal(a.allow.n_origins + a.allow.n_hosts, 0);
    allowed_close(&a);
    assert_false(file_exists(path));
    assert_int_equal(open_with(&a, home, "app://x", "host.docker.internal"), 0);
    allowed_close(&a);
    assert_int_equal(open_with(&a, home, "https://b.example", NULL), 0);
    assert_int_equal(a.allow.n_origins, 2);
    assert_string_equal(a.allow.origins[0], "app://x");
    assert_string_equal(a.allow.hosts[0], "host.docker.internal");
    allowed_close(&a);
    assert_int_equal(open_with(&a, home, "app://x", NULL), 0); /* known already */
    assert_int_equal(a.allow.n_origins, 2);
    allowed_close(&a);
    assert_int_equal(open_with(&a, home, "not an origin", NULL), FAIL_ARG);
    assert_int_equal(open_with(&a, home, NULL, "a:80"), FAIL_ARG);
    assert_int_equal(open_with(&a, home, "none", NULL), 0);
    allowed_close(&a);
    assert_int_equal(open_with(&a, home, NULL, NULL), 0);
    assert_int_equal(a.allow.n_origins, 0);
    assert_int_equal(a.allow.n_hosts, 1);
    allowed_close(&a);
    const char *const bad[] = { "", "[]", "{\"origins\": [5]}", "{\"hosts\": [\"a/b\"]}" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(file_write_atomic(path, bytes_text(bad[i]), 0600, NULL), 0);
        assert_true(open_with(&a, home, NULL, NULL) != 0);
    }
    unlink(path);
    rmdir(home);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(what_is_allowed_is_remembered) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
