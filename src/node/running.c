/* See running.h. */
#include "node/running.h"

#include <jansson.h>
#include <stdio.h>

#include "base/buffer.h"
#include "os/file.h"
#include "secure/identity.h"

#define NOTE_MAX ((size_t)4096)
#define PORT_MAX 65535
#define RUNNING_PATH 1024

static int path_of(const char *home, char ret[static RUNNING_PATH], struct error *e)
{
    int n = snprintf(ret, RUNNING_PATH, "%s/running", home);
    return n < RUNNING_PATH ? 0
                            : fail(e, FAIL_ARG, "a path of more than %d bytes", RUNNING_PATH - 1);
}

int running_note(const char *home, const struct running *r, struct error *e)
{
    char path[RUNNING_PATH], text[64];
    int code = path_of(home, path, e);
    int n =
        snprintf(text, sizeof text, "{\"port\": %d, \"peer_port\": %d}\n", r->port, r->peer_port);
    return code ? code : file_write_atomic(path, bytes_of(text, (size_t)n), 0600, e);
}

static bool take_port(const json_t *o, const char *key, int *ret)
{
    json_int_t n = json_integer_value(json_object_get(o, key));
    *ret = (int)(n > 0 && n <= PORT_MAX ? n : 0);
    return *ret != 0;
}

int running_find(const char *home, struct running *ret, struct error *e)
{
    char path[RUNNING_PATH];
    struct buffer text;
    struct running r;
    if (!home_is_held(home))
        return fail(e, FAIL_CLOSED, "no device runs in %s: start it by shoal up", home);
    buffer_init(&text, NOTE_MAX);
    int code = path_of(home, path, e);
    code = code ? code : file_read_all(path, &text, e);
    json_t *o = code ? NULL : json_loadb(buffer_cstr(&text), text.size, 0, NULL);
    if (!code && !(take_port(o, "port", &r.port) && take_port(o, "peer_port", &r.peer_port)))
        code = fail(e, FAIL_FORMAT, "%s does not tell two ports", path);
    if (!code)
        *ret = r;
    json_decref(o);
    buffer_done(&text);
    return code;
}
