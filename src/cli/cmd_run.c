/* shoal run: one prompt, or a chat with history, through a running device or in this process. */
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/conversation.h"
#include "cli/local_model.h"
#include "cli/options.h"

#include "os/file.h"
#include "os/terminal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PROMPT ((size_t)8 << 20)

/* Set by Ctrl-C: ends the answer, not the program. */
static atomic_bool interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    atomic_store(&interrupted, true);
}

struct run {
    struct conversation_options conversation;
    struct local_model_options local;
    const char *prompt, *url;
    struct local_model *model; /* NULL: the endpoint answers */
    struct conversation chat;
};

static int take(void *arg, struct bytes data)
{
    return atomic_load(&interrupted) ? ERR_CANCELLED : conversation_take(arg, data);
}

static int ask(struct run *r, const char *text, struct error *e)
{
    char *body = NULL;
    long status = 0;
    int result = conversation_ask(&r->chat, text, &body, e);
    if (result)
        return result;
    atomic_store(&interrupted, false);
    if (r->model)
        result = local_model_post(r->model,
                                  &(struct local_model_request){ .path = "/v1/chat/completions",
                                                                 .body = body,
                                                                 .on_data = take,
                                                                 .arg = &r->chat,
                                                                 .stop = &interrupted },
                                  &status, e);
    else
        result = client_send(&(struct client_request){ .url = r->url,
                                                       .path = "/v1/chat/completions",
                                                       .body = body,
                                                       .on_data = take,
                                                       .arg = &r->chat },
                             &status, e);
    free(body);
    result = conversation_finish(&r->chat, status, result, e);
    printf("\n");
    fflush(stdout);
    if (!result)
        conversation_print_rates(&r->chat);
    return result;
}

/* One line of any length up to the limit, without its end; false at the end of input. */
static bool read_line(struct buffer *line)
{
    buffer_clear(line);
    int c;
    while ((c = getchar()) != EOF && c != '\n')
        if (buffer_u8(line, (uint8_t)c))
            return false;
    return c != EOF || line->size > 0;
}

/* A line, a turn. A failed turn is told and the chat goes on; without a terminal it ends. */
static int chat(struct run *r, struct error *e)
{
    bool person = terminal_on_input();
    struct buffer line;
    int result = 0;
    buffer_init(&line, MAX_PROMPT);
    if (person)
        fprintf(stderr, "chat with %s; Ctrl-C stops an answer, Ctrl-D leaves\n",
                r->conversation.model);
    for (;;) {
        if (person)
            fprintf(stderr, "> ");
        if (!read_line(&line)) {
            if (atomic_exchange(&interrupted, false) && !feof(stdin)) {
                clearerr(stdin);
                continue;
            }
            break;
        }
        if (!line.size)
            continue;
        result = ask(r, buffer_cstr(&line), e);
        if (result == ERR_CANCELLED)
            result = 0;
        if (result && !person)
            break;
        if (result)
            fprintf(stderr, "shoal: run: %s\n", e->text);
        result = 0;
    }
    buffer_done(&line);
    return result;
}

static int start(struct run *r, struct error *e)
{
    signal(SIGINT, on_interrupt);
    int result = conversation_init(&r->chat, &r->conversation, e);
    if (!result && file_exists(r->conversation.model)) {
        r->local.path = r->conversation.model;
        result = local_model_open(&r->model, &r->local, e);
    }
    if (!result)
        result = r->prompt ? ask(r, r->prompt, e) : chat(r, e);
    local_model_close(r->model);
    conversation_done(&r->chat);
    return result;
}

int cmd_run(int argc, char **argv)
{
    struct run r = { .conversation = { .temperature = -1, .seed = -1 },
                     .local = { .context = 4096 },
                     .url = CLIENT_DEFAULT_URL };
    const struct option_row rows[] = {
        OPTION_ARGUMENT("MODEL", &r.conversation.model, "a served model's name, or a GGUF file"),
        OPTION_OPTIONAL_ARGUMENT("PROMPT", &r.prompt, "without it: a chat, a line a turn"),
        OPTION_TEXT("system", &r.conversation.system, "TEXT", "system message"),
        OPTION_REAL("temperature", &r.conversation.temperature, 0, 2, "T", "0: greedy"),
        OPTION_INT("seed", &r.conversation.seed, 0, INT64_MAX / 1024, "N", "of the sampling"),
        OPTION_INT("max-tokens", &r.conversation.max_tokens, 1, 1 << 24, "N", "of each answer"),
        OPTION_TEXT("url", &r.url, "URL", "the endpoint, " CLIENT_DEFAULT_URL " by default"),
        OPTION_INT("context", &r.local.context, 16, 1 << 24, "N", "positions, for a file"),
        OPTION_INT("threads", &r.local.threads, 1, 256, "N", "compute threads, for a file"),
        OPTION_TEXT("isa", &r.local.isa, "NAME", "instruction set, for a file"),
    };
    const struct option_set set = { "run", rows, ARRAY_LEN(rows) };
    struct error e = { 0 };
    int status = EXIT_OK;
    if (!options_start(&set, argc, argv, &status))
        return status;
    if (start(&r, &e)) {
        fprintf(stderr, "shoal: run: %s\n", e.text);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}
