/* Files: see file.h. */
#include "os/file.h"

#include "os/fault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int fail_errno(struct error *e, const char *path, const char *what)
{
    int code = errno == ENOENT || errno == ENOTDIR                    ? FAIL_NOT_FOUND
               : errno == ENOMEM                                      ? FAIL_NOMEM
               : errno == EACCES || errno == EPERM || errno == EROFS  ? FAIL_AUTH
               : errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? FAIL_LIMIT
                                                                      : FAIL_IO;
    return fail(e, code, "%s: %s: %s", path, what, strerror(errno));
}

static struct file_identity identity_of(const struct stat *s)
{
    return (struct file_identity){ .device = (uint64_t)s->st_dev,
                                   .inode = (uint64_t)s->st_ino,
                                   .size = (uint64_t)s->st_size,
#ifdef __APPLE__
                                   .modified_ns = s->st_mtimespec.tv_sec * INT64_C(1000000000) +
                                                  s->st_mtimespec.tv_nsec };
#else
                                   .modified_ns = s->st_mtim.tv_sec * INT64_C(1000000000) +
                                                  s->st_mtim.tv_nsec };
#endif
}

int file_identify(const char *path, struct file_identity *ret, struct error *e)
{
    struct stat s;
    if (stat(path, &s))
        return fail_errno(e, path, "looking at it");
    *ret = identity_of(&s);
    return 0;
}

/* Opens a regular file and looks at it. Non-blocking, since a FIFO would wait for its other end for
 * ever; on a regular file that changes nothing. */
static int open_regular(const char *path, int flags, unsigned mode, int *ret, struct stat *s,
                        struct error *e)
{
    int r = 0, fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, (mode_t)mode);
    if (fd < 0)
        r = errno == ENXIO ? fail(e, FAIL_IO, "%s: not a regular file", path)
                           : fail_errno(e, path, "opening");
    else if (fstat(fd, s))
        r = fail_errno(e, path, "looking at it");
    else if (!S_ISREG(s->st_mode))
        r = fail(e, FAIL_IO, "%s: not a regular file", path);
    if (r == 0)
        *ret = fd;
    else if (fd >= 0)
        close(fd);
    return r;
}

int file_open(const char *path, int *ret, struct error *e)
{
    struct stat s;
    return open_regular(path, O_RDONLY, 0, ret, &s, e);
}

int file_map_open(struct file_map *ret, const char *path, struct error *e)
{
    struct stat s;
    int fd = -1, r = open_regular(path, O_RDONLY, 0, &fd, &s, e);
    if (r)
        return r;
    if ((uint64_t)s.st_size > SIZE_MAX) {
        r = fail(e, FAIL_LIMIT, "%s: %" PRIu64 " bytes are more than this machine can address",
                 path, (uint64_t)s.st_size);
        goto out;
    }
    struct file_map m = { .size = (uint64_t)s.st_size, .identity = identity_of(&s) };
    if (m.size) {
        void *p = mmap(NULL, (size_t)m.size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            r = fail_errno(e, path, "mapping");
            goto out;
        }
        m.data = p;
        m.guard = fault_guard(p, (size_t)m.size);
    }
    *ret = m;
out:
    close(fd);
    return r;
}

void file_map_close(struct file_map *m)
{
    if (m && m->data) {
        fault_release(m->guard);
        munmap((void *)m->data, (size_t)(m->dropped ? m->dropped : m->size));
    }
    if (m)
        *m = (struct file_map){ 0 };
}

bool file_map_unchanged(const struct file_map *m, const char *path)
{
    struct stat s;
    if (stat(path, &s))
        return false;
    struct file_identity now = identity_of(&s);
    return now.device == m->identity.device && now.inode == m->identity.inode &&
           now.size == m->identity.size && now.modified_ns == m->identity.modified_ns;
}

bool file_map_changed(const struct file_map *m, const char *path)
{
    struct stat s;
    if (fault_happened(m->guard))
        return true;
    if (stat(path, &s))
        return false;
    struct file_identity now = identity_of(&s);
    return now.device == m->identity.device && now.inode == m->identity.inode &&
           (now.size != m->identity.size || now.modified_ns != m->identity.modified_ns);
}

static uint64_t whole_pages(uint64_t size)
{
    return size_round_up(size, (uint64_t)sysconf(_SC_PAGESIZE));
}

int file_map_keep(struct file_map *m, uint64_t size, struct error *e)
{
    uint64_t pages = whole_pages(size < m->size ? size : m->size);
    uint64_t bytes = pages < m->size ? pages : m->size;
    if (!bytes)
        return 0;
    void *copy = malloc((size_t)bytes);
    if (!copy)
        return fail(e, FAIL_NOMEM, "%" PRIu64 " bytes of a file", bytes);
    memcpy(copy, m->data, (size_t)bytes);
    void *p = mmap((void *)m->data, (size_t)pages, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    int r = p == MAP_FAILED ? fail(e, FAIL_NOMEM, "%" PRIu64 " bytes of a file", bytes) : 0;
    if (!r) {
        memcpy(p, copy, (size_t)bytes);
        mprotect(p, (size_t)pages, PROT_READ);
    }
    free(copy);
    return r;
}

void file_map_drop(struct file_map *m, uint64_t size)
{
    uint64_t keep = whole_pages(size), end = m->dropped ? m->dropped : m->size;
    if (!m->data || keep == 0 || keep >= end)
        return;
    munmap((void *)(m->data + keep), (size_t)(end - keep));
    m->dropped = keep;
}

void file_map_advise(const struct file_map *m, uint64_t offset, uint64_t size,
                     enum file_advice advice)
{
    static const int numbers[FILE_ADVICE_COUNT] = {
        [FILE_ADVICE_SEQUENTIAL] = MADV_SEQUENTIAL,
        [FILE_ADVICE_NEEDED] = MADV_WILLNEED,
        [FILE_ADVICE_DONE] = MADV_DONTNEED,
    };
    if (offset >= m->size || m->dropped || (unsigned)advice >= FILE_ADVICE_COUNT)
        return;
    if (size > m->size - offset)
        size = m->size - offset;
    uint64_t into = offset % (uint64_t)sysconf(_SC_PAGESIZE);
    /* Not posix_madvise: glibc passes DONTNEED over. The mapping is read-only and never written, so
     * that pages which go come back from the file. */
    madvise((void *)(m->data + (offset - into)), (size_t)(size + into), numbers[advice]);
}

int file_read_range(const char *path, uint64_t offset, void *ret, size_t size, struct error *e)
{
    int fd = -1, r = file_open(path, &fd, e);
    if (r)
        return r;
    for (size_t at = 0; at < size && !r;) {
        ssize_t n = offset > INT64_MAX - size
                        ? 0
                        : pread(fd, (uint8_t *)ret + at, size - at, (off_t)(offset + at));
        if (n > 0)
            at += (size_t)n;
        else if (n == 0)
            r = fail(e, FAIL_FORMAT, "%s: ends before byte %" PRIu64, path, offset + size);
        else if (errno != EINTR)
            r = fail_errno(e, path, "reading");
    }
    close(fd);
    return r;
}

/* Up to the end; closes what is not standard input. */
static int read_to_end(int fd, const char *path, struct buffer *out, struct error *e)
{
    int r = 0;
    for (;;) {
        uint8_t chunk[65536];
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            r = fail_errno(e, path, "reading");
        if (n <= 0)
            break;
        if (buffer_append(out, bytes_of(chunk, (size_t)n))) {
            r = fail(e, FAIL_LIMIT, "%s: larger than %zu bytes", path, out->limit);
            break;
        }
    }
    if (fd != STDIN_FILENO)
        close(fd);
    return r;
}

int file_read_all(const char *path, struct buffer *out, struct error *e)
{
    int fd = STDIN_FILENO, r = strcmp(path, "-") == 0 ? 0 : file_open(path, &fd, e);
    return r ? r : read_to_end(fd, path, out, e);
}

int file_read_typed(const char *path, struct buffer *out, struct error *e)
{
    int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? fail_errno(e, path, "opening") : read_to_end(fd, path, out, e);
}

static int write_all(int fd, struct bytes content)
{
    size_t at = 0;
    while (at < content.size) {
        ssize_t n = write(fd, content.data + at, content.size - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        at += (size_t)n;
    }
    return 0;
}

int file_write_atomic(const char *path, struct bytes content, unsigned mode, struct error *e)
{
    char temp[4096];
    int n = snprintf(temp, sizeof(temp), "%s.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof(temp))
        return fail(e, FAIL_LIMIT, "%s: the path is too long", path);
    int fd = mkstemp(temp);
    if (fd < 0)
        return fail_errno(e, path, "writing");
    int r = 0;
    if (fchmod(fd, (mode_t)mode) || write_all(fd, content) || fsync(fd))
        r = fail_errno(e, path, "writing");
    close(fd);
    if (!r && rename(temp, path))
        r = fail_errno(e, path, "replacing");
    if (r)
        unlink(temp);
    return r;
}

int file_append(const char *path, struct bytes more, unsigned mode, struct error *e)
{
    struct stat s;
    int fd = -1, r = open_regular(path, O_WRONLY | O_APPEND | O_CREAT, mode, &fd, &s, e);
    if (r)
        return r;
    r = write_all(fd, more) ? fail_errno(e, path, "writing") : 0;
    close(fd);
    return r;
}

int file_make_directory(const char *path, unsigned mode, struct error *e)
{
    char copy[4096];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof(copy))
        return fail(e, FAIL_LIMIT, "%s: the path is empty or too long", path);
    memcpy(copy, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (copy[i] != '/' && copy[i] != '\0')
            continue;
        char keep = copy[i];
        copy[i] = '\0';
        if (mkdir(copy, (mode_t)mode) && errno != EEXIST)
            return fail_errno(e, copy, "making the directory");
        copy[i] = keep;
    }
    return 0;
}

bool file_exists(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0;
}

bool file_is_regular(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISREG(s.st_mode);
}

int file_list(const char *directory, bool (*fn)(void *arg, const char *name), void *arg,
              struct error *e)
{
    DIR *d = opendir(directory);
    if (!d)
        return fail_errno(e, directory, "listing");
    for (struct dirent *entry; (entry = readdir(d));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            !fn(arg, entry->d_name))
            break;
    closedir(d);
    return 0;
}
