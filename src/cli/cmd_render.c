/* shoal render: the prompt that a model's chat template makes of a conversation. */
#include "cli/commands.h"

#include <stdio.h>
#include <stdlib.h>

#include "chat/template.h"
#include "cli/folders.h"
#include "cli/options.h"
#include "cli/print.h"
#include "gguf/gguf.h"
#include "os/clock.h"

/* As much JSON as the API takes. */
#define MAX_INPUT ((size_t)64 << 20)

static int read_json(json_t **ret, struct error *e)
{
    struct buffer text;
    json_error_t problem;
    static uint8_t chunk[1 << 16];
    size_t n;
    int r = 0;
    buffer_init(&text, MAX_INPUT);
    while (!r && (n = fread(chunk, 1, sizeof chunk, stdin)) > 0)
        if (buffer_append(&text, bytes_of(chunk, n)))
            r = fail(e, FAIL_LIMIT, "the conversation has more than %zu bytes", MAX_INPUT);
    if (!r && ferror(stdin))
        r = fail(e, FAIL_IO, "stdin can't be read");
    if (!r) {
        json_t *json = json_loadb(buffer_cstr(&text), text.size, JSON_ALLOW_NUL, &problem);
        if (json)
            *ret = json;
        else
            r = fail(e, FAIL_FORMAT, "stdin is not JSON: line %d, column %d: %s", problem.line,
                     problem.column, problem.text);
    }
    buffer_done(&text);
    return r;
}

static int render(const char *path, struct buffer *out, struct error *e)
{
    struct gguf *g = NULL;
    json_t *request = NULL;
    struct chat_template *template = NULL;
    struct jinja_clock now = chat_clock(clock_wall_s());
    struct chat_context context = { .now = &now };
    int r = gguf_open(&g, path, e);
    if (r)
        goto out;
    if ((r = chat_template_open(&template, g, e)) || (r = chat_tokens_of(g, &context.tokens, e))) {
        wrap(e, "%s", path);
        goto out;
    }
    if (!template) {
        r = fail(e, FAIL_NOT_FOUND, "%s has no chat template (tokenizer.chat_template)", path);
        goto out;
    }
    if (!(r = read_json(&request, e)))
        r = chat_render(template, request, &context, out, NULL, e);
out:
    chat_template_close(template);
    json_decref(request);
    gguf_close(g);
    return r;
}

int cmd_render(int argc, char **argv)
{
    const char *model = NULL, *models = NULL;
    char path[FOLDER_TEXT];
    const struct option_row rows[] = {
        OPTION_ARGUMENT(
            "MODEL", &model,
            "a GGUF file or a name; stdin has a JSON array of messages, or an object with "
            "\"messages\", \"tools\" and other variables of the template"),
        OPTION_MODELS(&models),
    };
    const struct option_set set = { "render", rows, sizeof rows / sizeof rows[0] };
    int status = EXIT_OK;
    struct error e = { 0 };
    struct buffer out;
    if (!options_start(&set, argc, argv, &status))
        return status;
    buffer_init(&out, MAX_INPUT);
    if (folders_find_model(model, models, path, &e) || render(path, &out, &e)) {
        print_failure("render", &e);
        status = EXIT_FAILED;
    } else {
        print_text(buffer_bytes(&out));
    }
    buffer_done(&out);
    return status;
}
