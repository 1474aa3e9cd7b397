/* shoal list: the models of the models folder. */
#include "cli/commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/size_text.h"
#include "cli/folders.h"
#include "cli/options.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "store/shelf.h"

#define NOTE_TEXT 64

static void format_note(const struct shelf_model *m, char note[static NOTE_TEXT])
{
    note[0] = '\0';
    if (m->unfinished)
        snprintf(note, NOTE_TEXT, "unfinished: shoal pull goes on");
    else if (!shelf_is_whole(m))
        snprintf(note, NOTE_TEXT, "only %d of %d files", m->files, m->parts);
    else if (m->parts > 1)
        snprintf(note, NOTE_TEXT, "%d files", m->parts);
}

static void print_table(const struct shelf_model *all, int n, const char *folder)
{
    if (n == 0) {
        print_err("no models in %s: shoal pull fetches one\n", folder);
        return;
    }
    print_styled(PRINT_OUT, PRINT_BOLD, "%-40s %10s  %-10s", "model", "size", "changed");
    print_out("\n");
    for (int i = 0; i < n; i++) {
        char size[SIZE_TEXT], day[16] = "", note[NOTE_TEXT];
        time_t when = (time_t)all[i].modified_s;
        struct tm parts;
        if (localtime_r(&when, &parts))
            strftime(day, sizeof day, "%Y-%m-%d", &parts);
        size_text(all[i].bytes, size);
        format_note(&all[i], note);
        print_out("%-40s %10s  %s%s", all[i].name, size, day, note[0] ? "  " : "");
        print_styled(PRINT_OUT, shelf_is_whole(&all[i]) ? PRINT_FAINT : PRINT_BAD, "%s", note);
        print_out("\n");
    }
}

static int print_all_json(const struct shelf_model *all, int n, struct error *e)
{
    json_t *list = json_array();
    int failed = 0;
    for (int i = 0; i < n; i++)
        failed |= json_array_append_new(
            list,
            json_pack("{s:o, s:o, s:I, s:I, s:i, s:i, s:b}", "name",
                      print_json_string(bytes_text(all[i].name)), "path",
                      print_json_string(bytes_text(all[i].path)), "bytes", (json_int_t)all[i].bytes,
                      "changed_s", (json_int_t)all[i].modified_s, "files", all[i].files, "parts",
                      all[i].parts, "whole", shelf_is_whole(&all[i])));
    if (failed) {
        json_decref(list);
        return fail(e, FAIL_NOMEM, "the JSON text");
    }
    return print_json(list, e);
}

int cmd_list(int argc, char **argv)
{
    const char *models = NULL;
    bool json = false, names = false;
    const struct option_row rows[] = {
        OPTION_FLAG("names", &names, "print names only, of models that are whole"),
        OPTION_FLAG("json", &json, "print JSON"),
        OPTION_MODELS(&models),
    };
    const struct option_set set = { "list", rows, ARRAY_LEN(rows) };
    struct error e = { 0 };
    struct folders f;
    struct shelf_model *all = NULL;
    int n = 0, status = EXIT_OK;
    if (!options_start(&set, argc, argv, &status))
        return status;
    int code = folders_find(NULL, models, &f, &e);
    code = code ? code : shelf_list(f.models, &all, &n, &e);
    if (!code && json) {
        code = print_all_json(all, n, &e);
    } else if (!code && names) {
        for (int i = 0; i < n; i++)
            if (shelf_is_whole(&all[i]))
                print_out("%s\n", all[i].name);
    } else if (!code) {
        print_table(all, n, f.models);
    }
    free(all);
    if (code)
        print_failure("list", &e);
    return code ? EXIT_FAILED : EXIT_OK;
}
