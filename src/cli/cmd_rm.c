/* shoal rm: takes a model out of the models folder. */
#include "cli/commands.h"

#include <stdio.h>

#include "base/size_text.h"
#include "base/buffer.h"
#include "base/model_name.h"
#include "cli/ask.h"
#include "cli/folders.h"
#include "cli/options.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "store/shelf.h"

#define QUESTION_MAX ((size_t)4096)

/* Asks whoever sits there; where nobody does, only --yes removes anything. */
static int agree(const char *folder, const struct shelf_model *m, struct error *e)
{
    struct buffer question;
    char size[SIZE_TEXT];
    bool asked = false;
    size_text(m->bytes, size);
    buffer_init(&question, QUESTION_MAX);
    buffer_printf(&question, "remove %s (%s%s) from %s?", m->name, size,
                  m->parts > 1 ? ", all its parts" : "", folder);
    bool yes = ask_yes(buffer_cstr(&question), &asked);
    buffer_done(&question);
    if (yes)
        return 0;
    return asked ? fail(e, FAIL_CANCELLED, "%s stays", m->name)
                 : fail(e, FAIL_ARG, "nobody can be asked: --yes removes %s", m->name);
}

static int remove_model(const char *name, const char *models, bool yes, struct error *e)
{
    struct folders f;
    struct shelf_model m;
    if (model_name_is_path(name))
        return fail(e, FAIL_ARG, "%s is a path: rm removes models of the models folder by name",
                    name);
    int code = folders_find(NULL, models, &f, e);
    code = code ? code : shelf_find(f.models, name, &m, e);
    code = code || yes ? code : agree(f.models, &m, e);
    code = code ? code : shelf_remove(f.models, &m, e);
    if (!code)
        print_err("removed %s\n", m.name);
    return code;
}

int cmd_rm(int argc, char **argv)
{
    const char *name = NULL, *models = NULL;
    bool yes = false;
    const struct option_row rows[] = {
        OPTION_ARGUMENT("NAME", &name, "a model that shoal list names"),
        OPTION_FLAG("yes", &yes, "don't ask"),
        OPTION_MODELS(&models),
    };
    const struct option_set set = { "rm", rows, ARRAY_LEN(rows) };
    struct error e = { 0 };
    int status = EXIT_OK;
    if (!options_start(&set, argc, argv, &status))
        return status;
    int code = remove_model(name, models, yes, &e);
    if (code)
        print_failure("rm", &e);
    return code == FAIL_ARG ? EXIT_USAGE : code ? EXIT_FAILED : EXIT_OK;
}
