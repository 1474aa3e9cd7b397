/* Growing files: see output.h. */
#include "os/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Between opening and locking, another process may give the file its final name; more often than
 * this in a row nobody does. */
#define OPEN_TRIES 16

static bool names_file(const char *path, int fd)
{
    struct stat named, opened;
    return lstat(path, &named) == 0 && fstat(fd, &opened) == 0 && named.st_dev == opened.st_dev &&
           named.st_ino == opened.st_ino;
}

int file_output_open(struct file_output *ret, const char *path, struct error *e)
{
    for (int i = 0; i < OPEN_TRIES; i++) {
        int fd =
            open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
        if (fd < 0) {
            return fail_errno(e, path, "opening for writing");
        }
        struct stat s;
        if (fstat(fd, &s) != 0 || !S_ISREG(s.st_mode)) { /* a FIFO, a device */
            close(fd);
            return fail(e, FAIL_IO, "%s: not a regular file", path);
        }
        /* File systems without locks answer otherwise: then there is only care. */
        if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
            close(fd);
            return fail(e, FAIL_BUSY, "%s: another process is writing it", path);
        }
        if (names_file(path, fd)) {
            *ret = (struct file_output){ .fd = fd, .path = path };
            return 0;
        }
        close(fd);
    }
    return fail(e, FAIL_BUSY, "%s: other processes keep replacing it", path);
}

void file_output_close(struct file_output *f)
{
    if (f->fd >= 0) {
        close(f->fd);
    }
    f->fd = -1;
}

int file_output_append(struct file_output *f, struct bytes more, size_t *written, struct error *e)
{
    *written = 0;
    while (*written < more.size) {
        ssize_t n = write(f->fd, more.data + *written, more.size - *written);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fail_errno(e, f->path, "writing");
        }
        *written += (size_t)n;
    }
    return 0;
}

int file_output_truncate(struct file_output *f, uint64_t size, struct error *e)
{
    return ftruncate(f->fd, (off_t)size) == 0 ? 0 : fail_errno(e, f->path, "cutting it");
}

int file_output_sync(struct file_output *f, struct error *e)
{
    return fsync(f->fd) == 0 ? 0 : fail_errno(e, f->path, "writing to the disk");
}

int file_free_space(const char *folder, uint64_t *ret, struct error *e)
{
    struct statvfs s;
    if (statvfs(folder, &s) != 0) {
        return fail_errno(e, folder, "asking for its free space");
    }
    *ret = (uint64_t)s.f_bavail * (s.f_frsize ? s.f_frsize : s.f_bsize);
    return 0;
}

int file_rename(const char *from, const char *to, struct error *e)
{
    return rename(from, to) == 0 ? 0 : fail_errno(e, to, "giving the file this name");
}

int file_link(const char *from, const char *to, struct error *e)
{
    if (linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) == 0) {
        return 0;
    }
    if (errno == EXDEV || errno == EPERM || errno == EMLINK || errno == ENOSYS ||
        errno == EOPNOTSUPP) {
        return fail(e, FAIL_UNSUPPORTED, "%s: %s", to, strerror(errno));
    }
    return fail_errno(e, to, "making a second name");
}

bool file_remove(const char *path)
{
    return unlink(path) == 0 || errno == ENOENT;
}
