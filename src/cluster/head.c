/* HOME/head holds a line "ID MARK": the head's device, and a mark of the cluster's key that it was
 * learnt under. With another key this is another cluster, and the line says nothing. */
#include "cluster/head.h"

#include "base/buffer.h"
#include "os/file.h"
#include "os/log.h"

#include <stdio.h>
#include <string.h>

#define PATH_TEXT 4096
#define LINE_MAX_BYTES 256

static bool path_of(const struct cluster *c, char path[static PATH_TEXT])
{
    int n = snprintf(path, PATH_TEXT, "%s/head", c->options.home);
    return n > 0 && n < PATH_TEXT;
}

void head_open(struct cluster *c)
{
    char path[PATH_TEXT], mark[PEER_MARK_TEXT], expected[LINE_MAX_BYTES];
    struct buffer line;
    if (c->self->head) {
        snprintf(c->head_id, sizeof c->head_id, "%s", c->self->id);
        return;
    }
    peers_invited_by(c->peers, c->head_id);
    peers_mark(c->peers, mark);
    if (c->head_id[0] != '\0' || mark[0] == '\0' || !path_of(c, path)) {
        return;
    }
    buffer_init(&line, LINE_MAX_BYTES);
    if (file_read_all(path, &line, NULL) == 0 && line.size >= DEVICE_ID_TEXT) {
        char id[DEVICE_ID_TEXT] = "";
        memcpy(id, line.data, DEVICE_ID_TEXT - 1);
        snprintf(expected, sizeof expected, "%s %s\n", id, mark);
        if (strcmp(buffer_cstr(&line), expected) == 0) {
            memcpy(c->head_id, id, sizeof id);
        }
    }
    buffer_done(&line);
}

void head_pin(struct cluster *c, const char *id)
{
    char path[PATH_TEXT], mark[PEER_MARK_TEXT], line[LINE_MAX_BYTES];
    struct error e = { 0 };
    snprintf(c->head_id, sizeof c->head_id, "%s", id);
    peers_mark(c->peers, mark);
    if (mark[0] == '\0' || !path_of(c, path)) {
        return;
    }
    snprintf(line, sizeof line, "%s %s\n", id, mark);
    struct buffer before;
    buffer_init(&before, LINE_MAX_BYTES);
    bool same = file_exists(path) && file_read_all(path, &before, NULL) == 0 &&
                strcmp(buffer_cstr(&before), line) == 0;
    buffer_done(&before);
    if (!same && file_write_atomic(path, bytes_text(line), 0600, &e) != 0) {
        log_warn("cluster", "whom this device follows is not kept: %s", e.text);
    }
}
