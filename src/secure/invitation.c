/* Invitations: see invitation.h.
 *
 * The text is "shoal1:" and base64url of: id, key, expiry (u64), number of addresses (u8), each
 * with its length (u8), the head's id where it is known. HOME/invitations has a line "ID KEY
 * EXPIRES" in hex for each open one. */
#include "secure/invitation.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/buffer.h"
#include "base/cursor.h"
#include "os/file.h"
#include "secure/identity.h"
#include "secure/internal.h"
#include "secure/text.h"

#define PREFIX "shoal1:"
#define CONTENT_MAX                                                                                \
    (INVITATION_ID + INVITATION_KEY + 9 + INVITATION_ADDRESSES * INVITATION_ADDRESS_TEXT +         \
     INVITATION_HEAD)
#define LINE_BYTES (2 * INVITATION_ID + 1 + 2 * INVITATION_KEY + 1 + 16 + 1)
#define FILE_BYTES (INVITATION_MAX * LINE_BYTES + 1)

_Static_assert(sizeof PREFIX + (CONTENT_MAX * 4 + 2) / 3 <= INVITATION_TEXT, "longest text");

void invitation_format(char out[static INVITATION_TEXT], const struct invitation *i)
{
    uint8_t content[CONTENT_MAX];
    size_t n = 0;
    memcpy(content, i->id, INVITATION_ID);
    n += INVITATION_ID;
    memcpy(content + n, i->key, INVITATION_KEY);
    n += INVITATION_KEY;
    for (int k = 0; k < 8; k++) {
        content[n++] = (uint8_t)((uint64_t)i->expires_s >> 8 * k);
    }
    content[n++] = (uint8_t)i->n_addresses;
    for (int a = 0; a < i->n_addresses; a++) {
        size_t size = strlen(i->addresses[a]);
        content[n++] = (uint8_t)size;
        memcpy(content + n, i->addresses[a], size);
        n += size;
    }
    if (i->has_head) {
        memcpy(content + n, i->head, INVITATION_HEAD);
        n += INVITATION_HEAD;
    }
    memcpy(out, PREFIX, sizeof PREFIX - 1);
    base64url_format(out + sizeof PREFIX - 1, content, n);
    OPENSSL_cleanse(content, sizeof content);
}

static int parse_address(char out[static INVITATION_ADDRESS_TEXT], struct cursor *c)
{
    uint8_t size = cursor_u8(c, "length of an address");
    struct bytes text = cursor_bytes(c, size, "address");
    if (c->failed) {
        return FAIL_FORMAT;
    }
    if (size == 0 || size >= INVITATION_ADDRESS_TEXT) {
        return cursor_fail(c, FAIL_FORMAT, "an address of %u bytes", size);
    }
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] <= 0x20 || text.data[i] >= 0x7f) {
            return cursor_fail(c, FAIL_FORMAT, "an address with foreign characters");
        }
    }
    memcpy(out, text.data, text.size);
    out[text.size] = '\0';
    return 0;
}

int invitation_parse(struct invitation *ret, struct bytes text, struct error *e)
{
    uint8_t content[CONTENT_MAX];
    size_t n = 0;
    while (text.size > 0 && (text.data[text.size - 1] == '\n' || text.data[text.size - 1] == ' ')) {
        text.size--; /* as pasted */
    }
    if (!bytes_starts_with(text, PREFIX)) {
        return fail(e, FAIL_FORMAT, "an invitation begins with \"" PREFIX "\"");
    }
    text = bytes_of(text.data + sizeof PREFIX - 1, text.size - (sizeof PREFIX - 1));
    if (!base64url_parse(content, sizeof content, &n, text)) {
        return fail(e, FAIL_FORMAT, "the invitation was cut or changed: not base64url");
    }
    struct invitation i = { 0 };
    struct cursor c;
    cursor_init(&c, bytes_of(content, n), e);
    struct bytes id = cursor_bytes(&c, INVITATION_ID, "invitation id");
    struct bytes key = cursor_bytes(&c, INVITATION_KEY, "invitation key");
    i.expires_s = (int64_t)cursor_u64(&c, "expiry");
    i.n_addresses = cursor_u8(&c, "number of addresses");
    if (c.failed) {
        return wrap(e, "the invitation was cut or changed");
    }
    memcpy(i.id, id.data, INVITATION_ID);
    memcpy(i.key, key.data, INVITATION_KEY);
    if (i.n_addresses > INVITATION_ADDRESSES) {
        return fail(e, FAIL_FORMAT, "an invitation with %d addresses, the most are %d",
                    i.n_addresses, INVITATION_ADDRESSES);
    }
    for (int a = 0; a < i.n_addresses; a++) {
        if (parse_address(i.addresses[a], &c) != 0) {
            return wrap(e, "invitation");
        }
    }
    if (cursor_left(&c) == INVITATION_HEAD) {
        memcpy(i.head, cursor_bytes(&c, INVITATION_HEAD, "head").data, INVITATION_HEAD);
        i.has_head = true;
    }
    if (cursor_left(&c) != 0) {
        return fail(e, FAIL_FORMAT, "an invitation with %zu bytes too many",
                    (size_t)cursor_left(&c));
    }
    *ret = i;
    return 0;
}

/* --- HOME/invitations --- */

struct list {
    int lock; /* descriptor of HOME/invitations.lock, held while the list is changed */
    int n;
    char path[SECURE_PATH];
    struct invitation all[INVITATION_MAX];
};

static void list_close(struct list *l)
{
    if (l->lock >= 0) {
        close(l->lock);
    }
    OPENSSL_cleanse(l->all, sizeof l->all);
}

static int parse_lines(struct list *l, const char *text, struct error *e)
{
    const char *line = text;
    while (*line != '\0') {
        size_t n = strcspn(line, "\n");
        uint8_t expires[8];
        struct invitation *i = &l->all[l->n];
        if (l->n == INVITATION_MAX || n + 1 != LINE_BYTES ||
            !hex_parse(i->id, INVITATION_ID, bytes_of(line, 16)) ||
            !hex_parse(i->key, INVITATION_KEY, bytes_of(line + 17, 64)) ||
            !hex_parse(expires, 8, bytes_of(line + 82, 16))) {
            return fail(e, FAIL_FORMAT,
                        "%s: line %d is damaged; removing the file ends all open "
                        "invitations",
                        l->path, l->n + 1);
        }
        uint64_t seconds = 0;
        for (int k = 0; k < 8; k++) {
            seconds = seconds << 8 | expires[k];
        }
        i->expires_s = (int64_t)seconds;
        l->n++;
        line += n + (line[n] == '\n');
    }
    return 0;
}

/* Without the lock: the file is only ever replaced as a whole. */
static int list_read(struct list *l, const char *home, struct error *e)
{
    char text[FILE_BYTES + 1];
    *l = (struct list){ .lock = -1 };
    int code = secure_path(l->path, home, "invitations", e);
    code = code == 0 ? secret_read(text, sizeof text, l->path, e) : code;
    code = code == FAIL_NOT_FOUND ? 0 : code == 0 ? parse_lines(l, text, e) : code;
    OPENSSL_cleanse(text, sizeof text);
    if (code != 0) {
        list_close(l);
    }
    return code;
}

static int take_lock(const char *path, bool wait, struct error *e)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB)) == 0) {
        return fd;
    }
    int code = fd >= 0 && errno == EWOULDBLOCK
                   ? fail(e, FAIL_BUSY, "%s is held by another process", path)
                   : fail(e, FAIL_IO, "%s: %s", path, strerror(errno));
    if (fd >= 0) {
        close(fd);
    }
    return code;
}

/* With the lock, to be changed. wait: for whoever holds it. */
static int list_open(struct list *l, const char *home, bool wait, struct error *e)
{
    char path[SECURE_PATH];
    int code = secure_path(path, home, "invitations.lock", e);
    code = code == 0 ? file_make_directory(home, 0700, e) : code;
    int lock = code == 0 ? take_lock(path, wait, e) : code;
    if (lock < 0) {
        return lock;
    }
    code = list_read(l, home, e);
    if (code != 0) {
        close(lock);
        return code;
    }
    l->lock = lock;
    return 0;
}

static int list_write(const struct list *l, struct error *e)
{
    struct buffer b;
    buffer_init(&b, FILE_BYTES);
    for (int i = 0; i < l->n; i++) {
        char id[2 * INVITATION_ID + 1], key[2 * INVITATION_KEY + 1];
        hex_format(id, l->all[i].id, INVITATION_ID);
        hex_format(key, l->all[i].key, INVITATION_KEY);
        buffer_printf(&b, "%s %s %016llx\n", id, key, (unsigned long long)l->all[i].expires_s);
    }
    int code = b.failed ? fail(e, FAIL_NOMEM, "memory for the invitations")
                        : file_write_atomic(l->path, buffer_bytes(&b), 0600, e);
    if (b.data != NULL) {
        OPENSSL_cleanse(b.data, b.size);
    }
    buffer_done(&b);
    return code;
}

static void drop_expired(struct list *l, int64_t now_s)
{
    int kept = 0;
    for (int i = 0; i < l->n; i++) {
        if (l->all[i].expires_s > now_s) {
            l->all[kept++] = l->all[i];
        }
    }
    l->n = kept;
}

int invitation_create(struct invitation *ret, const char *home, int64_t now_s, int hours,
                      struct error *e)
{
    if (hours < 1 || hours > INVITATION_MAX_HOURS) {
        return fail(e, FAIL_RANGE, "an invitation for %d hours, not 1 to %d", hours,
                    INVITATION_MAX_HOURS);
    }
    struct invitation fresh = { .expires_s = now_s + (int64_t)hours * 3600 };
    int code = secure_random(fresh.id, sizeof fresh.id, e);
    code = code == 0 ? secure_random(fresh.key, sizeof fresh.key, e) : code;
    struct list l;
    code = code == 0 ? list_open(&l, home, true, e) : code;
    if (code != 0) {
        return code;
    }
    drop_expired(&l, now_s);
    if (l.n == INVITATION_MAX) {
        code = fail(e, FAIL_LIMIT, "%d invitations are open, the most there may be", l.n);
    } else {
        l.all[l.n++] = fresh;
        code = list_write(&l, e);
    }
    list_close(&l);
    if (code == 0) {
        *ret = fresh;
    }
    return code;
}

void invitation_name_head(struct invitation *i, const char *home)
{
    char path[SECURE_PATH], line[IDENTITY_TEXT + 64];
    struct identity *own = NULL;
    i->has_head = false;
    if (cluster_key_is_own(home)) {
        if (identity_open(&own, home, NULL) == 0) {
            i->has_head = hex_parse(i->head, INVITATION_HEAD, bytes_text(own->id));
            identity_close(own);
        }
    } else if (secure_path(path, home, "head", NULL) == 0 &&
               secret_read(line, sizeof line, path, NULL) == 0 &&
               strlen(line) >= IDENTITY_TEXT - 1) {
        i->has_head = hex_parse(i->head, INVITATION_HEAD, bytes_of(line, IDENTITY_TEXT - 1));
    }
}

static int find_open(const struct list *l, const uint8_t *id, int64_t now_s, struct error *e)
{
    for (int i = 0; i < l->n; i++) {
        if (memcmp(l->all[i].id, id, INVITATION_ID) == 0) {
            return l->all[i].expires_s > now_s ? i
                                               : fail(e, FAIL_AUTH, "the invitation has expired");
        }
    }
    return fail(e, FAIL_NOT_FOUND, "the invitation is unknown here or was used already");
}

int invitation_find(uint8_t key[static INVITATION_KEY], const char *home,
                    const uint8_t id[static INVITATION_ID], int64_t now_s, struct error *e)
{
    struct list l;
    int code = list_read(&l, home, e);
    if (code != 0) {
        return code;
    }
    int i = find_open(&l, id, now_s, e);
    if (i >= 0) {
        memcpy(key, l.all[i].key, INVITATION_KEY);
    }
    list_close(&l);
    return i < 0 ? i : 0;
}

int invitation_redeem(const char *home, const uint8_t id[static INVITATION_ID], int64_t now_s,
                      struct error *e)
{
    struct list l;
    int code = list_open(&l, home, false, e);
    if (code != 0) {
        return code;
    }
    int i = find_open(&l, id, now_s, e);
    if (i >= 0) {
        l.all[i] = l.all[--l.n];
        drop_expired(&l, now_s);
        i = list_write(&l, e);
    }
    list_close(&l);
    return i;
}
