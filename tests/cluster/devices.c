/* See devices.h. */
#include "tests/cluster/devices.h"

#include "os/clock.h"
#include "os/file.h"
#include "os/log.h"
#include "tests/stage/fake.h"

#include <event2/thread.h>
#include <stdio.h>
#include <unistd.h>

int devices_set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    evthread_use_pthreads();
    f->base = event_base_new();
    snprintf(f->root, sizeof f->root, "/tmp/shoal-test-XXXXXX");
    assert_non_null(mkdtemp(f->root));
    snprintf(f->models, sizeof f->models, "%s", SHOAL_TEST_DATA "/golden");
    for (int i = 0; i < MAX_DEVICES; i++) {
        snprintf(f->devices[i].home, sizeof f->devices[i].home, "%s/%d", f->root, i);
    }
    log_set_level(LOG_ERROR);
    *state = f;
    return 0;
}

static bool remove_list(void *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", (const char *)folder, name);
    unlink(path);
    return true;
}

int devices_tear_down(void **state)
{
    struct fixture *f = *state;
    for (int i = MAX_DEVICES - 1; i >= 0; i--) {
        cluster_close(f->devices[i].cluster);
        char path[320];
        static const char *const files[] = { "device.key", "cluster.key", "device.lock", "head",
                                             "invitations" };
        for (size_t k = 0; k < ARRAY_LEN(files); k++) {
            snprintf(path, sizeof path, "%s/%s", f->devices[i].home, files[k]);
            unlink(path);
        }
        snprintf(path, sizeof path, "%s/invitations.lock", f->devices[i].home);
        unlink(path);
        snprintf(path, sizeof path, "%s/chunks", f->devices[i].home);
        file_list(path, remove_list, path, NULL);
        rmdir(path);
        rmdir(f->devices[i].home);
    }
    rmdir(f->root);
    event_base_free(f->base);
    free(f);
    return 0;
}

/* Runs the loop until done(arg) or the deadline. */
bool run_until(struct fixture *f, bool (*done)(void *arg), void *arg, uint64_t limit_ns)
{
    uint64_t until = clock_deadline(limit_ns);
    while (!done(arg) && clock_now_ns() < until) {
        event_base_loop(f->base, EVLOOP_ONCE);
    }
    return done(arg);
}

/* A file of a home into another, as its owner would copy it. */
void copy_file(struct fixture *f, int from, int to, const char *name)
{
    char path[320];
    struct buffer key;
    struct error e = { 0 };
    buffer_init(&key, 4096);
    snprintf(path, sizeof path, "%s/%s", f->devices[from].home, name);
    assert_int_equal(file_read_all(path, &key, &e), 0);
    assert_int_equal(file_make_directory(f->devices[to].home, 0700, &e), 0);
    snprintf(path, sizeof path, "%s/%s", f->devices[to].home, name);
    assert_int_equal(file_write_atomic(path, buffer_bytes(&key), 0600, &e), 0);
    buffer_done(&key);
}

/* The head's cluster key for a member. */
void copy_key(struct fixture *f, int from, int to)
{
    copy_file(f, from, to, "cluster.key");
}

struct cluster_options options_of(struct fixture *f, int i)
{
    static const char *const names[] = { "A", "B", "C", "D" };
    return (struct cluster_options){ .base = f->base,
                                     .home = f->devices[i].home,
                                     .models_dir = f->models,
                                     .name = names[i],
                                     .backend = &fake_backend,
                                     .isa = "fake",
                                     .threads = 1,
                                     .context = 128 };
}

void open_device(struct fixture *f, int i, struct cluster_options *o)
{
    struct error e = { 0 };
    if (i > 0 && o->join == NULL && o->invite == NULL && f->devices[0].cluster != NULL) {
        snprintf(f->devices[i].join, sizeof f->devices[i].join, "127.0.0.1:%d",
                 cluster_peer_port(f->devices[0].cluster));
        o->join = f->devices[i].join;
    }
    int code = cluster_open(&f->devices[i].cluster, o, &e);
    if (code != 0) {
        print_error("%s\n", e.text);
    }
    assert_int_equal(code, 0);
}

void close_device(struct fixture *f, int i)
{
    cluster_close(f->devices[i].cluster);
    f->devices[i].cluster = NULL;
}

bool head_ready(void *arg)
{
    struct fixture *f = arg;
    struct cluster_model m;
    if (cluster_model_count(f->devices[0].cluster) == 0) {
        return false;
    }
    cluster_model_at(f->devices[0].cluster, 0, &m);
    return m.state == MODEL_READY;
}

void add_model(struct fixture *f)
{
    struct error e = { 0 };
    int code = cluster_add_model(f->devices[0].cluster, "gemma3", &e);
    if (code != 0) {
        print_error("%s\n", e.text);
    }
    assert_int_equal(code, 0);
}

void open_devices(struct fixture *f, const char *split, int n, bool seal)
{
    for (int i = 0; i < n; i++) {
        struct cluster_options o = options_of(f, i);
        o.split = split;
        o.seal = seal;
        if (i > 0) {
            copy_key(f, 0, i);
        }
        open_device(f, i, &o);
        if (i == 0) {
            add_model(f);
        }
    }
}

bool passed(void *arg)
{
    return clock_now_ns() >= *(const uint64_t *)arg;
}

bool two_known(void *arg)
{
    struct fixture *f = arg;
    json_t *status = cluster_status(f->devices[0].cluster);
    size_t alive = json_array_size(json_object_get(status, "links"));
    json_decref(status);
    return alive > 0;
}
