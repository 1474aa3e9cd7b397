/* Who gives way in a full pool, whom an address belongs to, looking names up. */
#include "tests/test.h"

#include "os/clock.h"
#include "peer/pool.h"
#include "peer/resolve.h"

#include <netinet/in.h>
#include <stdio.h>

static void the_greediest_stranger_gives_way(void **state)
{
    struct pool_place p[] = { { "10.0.0.1", true, 1 },  { "10.0.0.1", true, 2 },
                              { "10.0.0.1", true, 3 },  { "10.0.0.7", false, 4 },
                              { "10.0.0.8", false, 6 }, { "10.0.0.8", false, 5 },
                              { "10.0.0.9", false, 2 } };
    assert_int_equal(pool_yields(p, 7), 5); /* the oldest of the one with two */
    assert_int_equal(pool_yields(p, 4), 3); /* a stranger before any member */
    assert_int_equal(pool_yields(p, 3), 0); /* members among themselves */
    p[4] = p[6];
    p[4].since_ns = 1;
    assert_int_equal(pool_yields(p, 5), 4);
}

static void a_source_is_a_host_or_a_network(void **state)
{
    static const struct {
        const char *address, *source;
    } cases[] = { { "10.0.0.7:4000", "10.0.0.7" },
                  { "[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::" },
                  { "[2001:db8:1:2:ffff::1]:81", "2001:db8:1:2::" },
                  { "nas:8421", "nas" } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char source[ADDRESS_TEXT];
        address_source(cases[i].address, source);
        assert_string_equal(source, cases[i].source);
    }
}

static void names_are_looked_up_beside_the_loop(void **state)
{
    struct resolver *r = resolver_open();
    struct resolved to;
    struct error e = { 0 };
    assert_int_equal(resolver_get(r, "127.0.0.1", 80, 1, &to, &e), 0);
    const struct sockaddr_in *v4 = (const void *)&to.address;
    assert_int_equal(v4->sin_port, htons(80));
    assert_int_equal(resolver_get(r, "::1", 81, 1, &to, &e), 0);
    assert_int_equal(to.address.ss_family, AF_INET6);
    /* A name is not there at once, and comes. */
    int code = resolver_get(r, "localhost", 82, 1, &to, &e);
    assert_int_equal(code, FAIL_BUSY);
    uint64_t until = clock_deadline(10 * CLOCK_NS_PER_S);
    while (code == FAIL_BUSY && clock_now_ns() < until) {
        clock_sleep(CLOCK_NS_PER_MS);
        code = resolver_get(r, "localhost", 82, 1, &to, &e);
    }
    assert_int_equal(code, 0);
    /* What was found stays while it is looked up again. */
    assert_int_equal(resolver_get(r, "localhost", 82, 1 + 2 * RESOLVE_FRESH_NS, &to, &e), 0);
    resolver_close(r);
    resolver_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_greediest_stranger_gives_way),
        cmocka_unit_test(a_source_is_a_host_or_a_network),
        cmocka_unit_test(names_are_looked_up_beside_the_loop),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
