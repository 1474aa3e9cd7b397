/* Runs a fuzz target over the files and folders given as arguments, once each: a corpus as a plain
 * test, with any compiler. Every input is copied to memory of its exact size, so that a sanitizer
 * sees a read past the end. */
#include "fuzz/fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Corpora hold small files; a larger one is a mistake. */
#define INPUT_MAX (1 << 20)

static int n_inputs;

static int run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return -1;
    }
    static uint8_t whole[INPUT_MAX];
    size_t size = fread(whole, 1, sizeof whole, f);
    int bad = ferror(f) || (size == sizeof whole && fgetc(f) != EOF);
    fclose(f);
    uint8_t *data = bad ? NULL : malloc(size ? size : 1);
    if (!data) {
        fprintf(stderr, "%s: can't be read, or is larger than %d bytes\n", path, INPUT_MAX);
        return -1;
    }
    memcpy(data, whole, size);
    fprintf(stderr, "%s: %zu bytes\n", path, size);
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    n_inputs++;
    return 0;
}

static int run_path(const char *path)
{
    struct stat s;
    if (stat(path, &s)) {
        perror(path);
        return -1;
    }
    if (!S_ISDIR(s.st_mode))
        return run_file(path);
    DIR *d = opendir(path);
    if (!d) {
        perror(path);
        return -1;
    }
    int r = 0;
    for (struct dirent *entry; !r && (entry = readdir(d));) {
        char name[4096];
        if (entry->d_name[0] == '.')
            continue;
        int n = snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        r = n > 0 && (size_t)n < sizeof name ? run_file(name) : -1;
    }
    closedir(d);
    return r;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (run_path(argv[i]))
            return 1;
    fprintf(stderr, "%d inputs\n", n_inputs);
    return n_inputs == 0;
}
