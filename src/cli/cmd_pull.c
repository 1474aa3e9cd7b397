/* shoal pull: a model file from here, from a web server or from the hub into the models folder. */
#include "cli/commands.h"

#include <stdio.h>

#include "base/size_text.h"
#include "cli/folders.h"
#include "cli/options.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "os/env.h"
#include "os/process.h"
#include "store/pull.h"
#include "store/source.h"

static bool show(void *arg, const struct download_progress *p)
{
    progress_show(arg, p);
    return true;
}

static void print_result(const struct pull_result *r)
{
    char bytes[SIZE_TEXT], parts[32] = "";
    size_text(r->bytes, bytes);
    if (r->parts > 1) {
        snprintf(parts, sizeof parts, " in %d files", r->parts);
    }
    print_err("%s%s, %s%s%s\n", bytes, parts,
              r->present  ? "was there already"
              : r->linked ? "linked: the same bytes under a second name"
                          : "complete",
              r->sha256[0] ? ", sha256 " : "", r->sha256);
    if (!r->verified && !r->local) {
        print_err(r->present ? "only its size was compared: --sha256 HEX makes sure\n"
                             : "nobody named a sha256 to compare with: --sha256 HEX makes sure\n");
    }
    print_out("%s\n", r->path);
}

int cmd_pull(int argc, char **argv)
{
    const char *spec = NULL, *models = NULL, *sha256 = NULL;
    const struct option_row rows[] = {
        OPTION_ARGUMENT("SPEC", &spec,
                        "a path, https://..., or hf:OWNER/REPO/FILE.gguf[@REVISION]"),
        OPTION_TEXT("models", &models, "DIR", "where to (~/.local/share/shoal/models)"),
        OPTION_TEXT("sha256", &sha256, "HEX", "that the file must have (what the hub says)"),
    };
    const struct option_set set = { "pull", rows, sizeof rows / sizeof rows[0] };
    int status = EXIT_OK;
    if (!options_start(&set, argc, argv, &status)) {
        return status;
    }
    struct error e = { 0 };
    struct folders f;
    struct pull_result r;
    struct progress screen = { 0 };
    process_ignore_broken_pipes();
    int code = folders_find(NULL, models, &f, &e);
    if (code != 0) {
        print_err("shoal pull: %s by --models DIR\n", e.text);
        return EXIT_USAGE;
    }
    code = pull(&(struct pull_options){ .spec = spec,
                                        .folder = f.models,
                                        .sha256 = sha256,
                                        .hub = env_get("HF_ENDPOINT", SOURCE_HUB_ENDPOINT),
                                        .token = env_get("HF_TOKEN", NULL),
                                        .progress = show,
                                        .arg = &screen },
                &r, &e);
    progress_end(&screen);
    if (code != 0) {
        print_failure("pull", &e);
        return code == FAIL_ARG ? EXIT_USAGE : EXIT_FAILED;
    }
    print_result(&r);
    return EXIT_OK;
}
