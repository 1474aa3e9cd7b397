/* shoal run: one prompt, or a chat with history, through a running device or in this process. */
#include "cli/commands.h"
#include "cli/client.h"
#include "cli/conversation.h"
#include "cli/folders.h"
#include "cli/options.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "cli/prompt.h"

#include "node/local_model.h"
#include "os/clock.h"
#include "os/env.h"
#include "os/file.h"
#include "os/terminal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PROMPT ((size_t)8 << 20)
#define MAX_HEALTH ((size_t)64 << 10)

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
    struct option_list stop;
    const char *prompt, *given_url, *models;
    bool json, quiet;
    char url[CLIENT_URL_TEXT], path[FOLDER_TEXT];
    struct local_model *model; /* NULL: the endpoint answers */
    struct conversation chat;
};

static int take(void *arg, struct bytes data)
{
    return atomic_load(&interrupted) ? FAIL_CANCELLED : conversation_take(arg, data);
}

static int send_body(struct run *r, const char *body, long *status, struct error *e)
{
    static const char path[] = "/v1/chat/completions";
    if (r->model)
        return local_model_post(r->model,
                                &(struct local_model_request){ .path = path,
                                                               .body = body,
                                                               .on_data = take,
                                                               .arg = &r->chat,
                                                               .stop = &interrupted },
                                status, e);
    return client_send(&(struct client_request){ .url = r->url,
                                                 .path = path,
                                                 .body = body,
                                                 .on_data = take,
                                                 .arg = &r->chat,
                                                 .stop = &interrupted },
                       status, e);
}

/* Says instead of the endpoint's words, which are for programs, which models it serves. */
static int explain(struct run *r, long status, int result, struct error *e)
{
    struct error why = { 0 };
    if (r->model || status != 404 ||
        client_find_model(r->url, r->conversation.model, &why) != FAIL_NOT_FOUND)
        return result;
    *e = why;
    return FAIL_NOT_FOUND;
}

static int ask(struct run *r, struct bytes text, struct error *e)
{
    char *body = NULL;
    long status = 0;
    int result = conversation_ask(&r->chat, text, &body, e);
    if (result)
        return result;
    atomic_store(&interrupted, false);
    result = send_body(r, body, &status, e);
    free(body);
    result = conversation_finish(&r->chat, status, result, e);
    if (result)
        result = explain(r, status, result, e);
    if (!r->json && (!result || r->chat.answer.size || atomic_load(&interrupted)))
        print_out("\n"); /* also after the "^C" that stands there */
    if (!result && r->json)
        result = conversation_print_json(&r->chat, e);
    int written = print_flush(e); /* says better why the answer was stopped */
    result = written ? written : result;
    if (!result)
        conversation_print_cut(&r->chat);
    if (!result && !r->quiet)
        conversation_print_rates(&r->chat);
    return result;
}

/* --- a chat --- */

struct chat_command {
    const char *name, *help;
    bool (*run)(struct run *r); /* false: the chat ends */
};

static bool run_help(struct run *r);

static bool run_clear(struct run *r)
{
    conversation_clear(&r->chat);
    print_err("the conversation is forgotten%s\n",
              r->conversation.system ? ", all but the system message" : "");
    return true;
}

static bool run_bye(struct run *r)
{
    (void)r;
    return false;
}

static const struct chat_command chat_commands[] = {
    { "/clear", "forget the conversation and begin a new one", run_clear },
    { "/help", "this list; /? too", run_help },
    { "/?", NULL, run_help },
    { "/bye", "leave; so do /exit and Ctrl-D", run_bye },
    { "/exit", NULL, run_bye },
};

static bool run_help(struct run *r)
{
    (void)r;
    for (size_t i = 0; i < ARRAY_LEN(chat_commands); i++)
        if (chat_commands[i].help)
            print_err("  %-14s%s\n", chat_commands[i].name, chat_commands[i].help);
    print_err("  \"\"\"           begins and ends a message of several lines\n"
              "  \\             at a line's end: the message goes on\n"
              "  Ctrl-C        stops an answer, or clears what is typed\n"
              "  arrows, Ctrl-A/E/K/U/W, Ctrl-R: as in a shell\n");
    return true;
}

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t\n")] == '\0';
}

/* "/word" and nothing else; a path or a question about one is a message. */
static bool is_command(const char *text)
{
    return text[0] == '/' && text[1] &&
           strspn(text + 1, "abcdefghijklmnopqrstuvwxyz?") == strlen(text + 1);
}

static bool run_command(struct run *r, const char *text)
{
    for (size_t i = 0; i < ARRAY_LEN(chat_commands); i++)
        if (strcmp(chat_commands[i].name, text) == 0)
            return chat_commands[i].run(r);
    print_err("there is no %s; /help lists what there is\n", text);
    return true;
}

/* What a person says; false when the chat ends. A failed turn is told and the chat goes on. */
static bool take_turn(struct run *r, struct prompt *prompt, char *message)
{
    struct error e = { 0 };
    if (is_command(message))
        return run_command(r, message);
    prompt_remember(prompt, message);
    int result = ask(r, bytes_text(prompt_unquote(message)), &e);
    if (result && result != FAIL_CANCELLED)
        print_failure("run", &e);
    return true;
}

/* A person's turns, until the person leaves. */
static void chat_with_person(struct run *r, struct prompt *prompt, struct buffer *message)
{
    struct error e = { 0 };
    bool goes_on = true;
    const char *slash = strrchr(r->conversation.model, '/');
    if (!r->quiet)
        print_err("chat with %s; /help tells more, Ctrl-D leaves\n",
                  slash ? slash + 1 : r->conversation.model);
    while (goes_on) {
        int result = prompt_read(prompt, message, &e);
        if (result == FAIL_CLOSED)
            break;
        if (result && result != FAIL_CANCELLED)
            print_failure("run", &e);
        if (!result && !is_blank(buffer_cstr(message)))
            goes_on = take_turn(r, prompt, (char *)message->data);
    }
}

static int chat(struct run *r, struct error *e)
{
    struct prompt *prompt = NULL;
    struct buffer message;
    int result = prompt_open(&prompt, e);
    if (result)
        return result;
    buffer_init(&message, MAX_PROMPT);
    chat_with_person(r, prompt, &message);
    buffer_done(&message);
    prompt_close(prompt);
    return 0;
}

/* --- start --- */

/* What is piped in is the prompt, or stands behind the one that was given. An empty ret: nothing
 * is. */
static int read_piped(const char *given, struct buffer *ret, struct error *e)
{
    struct buffer piped;
    if (given && given[strspn(given, " \t\r\n")] == '\0')
        return fail(e, FAIL_ARG, "the PROMPT is empty: without one there is a chat");
    if (terminal_on_input())
        return given ? buffer_text(ret, given) : 0;
    buffer_init(&piped, MAX_PROMPT);
    int result = file_read_all("-", &piped, e);
    while (piped.size && strchr(" \t\r\n", piped.data[piped.size - 1]))
        piped.size--;
    if (!result && given)
        result = buffer_text(ret, given);
    if (!result && given && piped.size)
        result = buffer_text(ret, "\n\n");
    if (!result)
        result = buffer_append(ret, buffer_bytes(&piped));
    if (!result && ret->size == 0)
        result = fail(e, FAIL_ARG, "standard input is empty, and there is no PROMPT");
    buffer_done(&piped);
    return result == FAIL_LIMIT ? fail(e, FAIL_LIMIT, "a prompt of more than %zu bytes", MAX_PROMPT)
                                : result;
}

/* Nobody was named who should answer, and nobody does. */
static bool is_alone(const struct run *r)
{
    struct buffer body;
    if (r->given_url || env_get("SHOAL_URL", NULL))
        return false;
    buffer_init(&body, MAX_HEALTH);
    bool alone = client_fetch(r->url, "/health", &body, NULL) == FAIL_CLOSED;
    buffer_done(&body);
    return alone;
}

/* How far a load is, on standard error. */
struct load {
    struct progress screen;
    const char *path;
    uint64_t start_ns;
};

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct load *l = arg;
    const char *slash = strrchr(l->path, '/');
    double seconds = (double)(clock_now_ns() - l->start_ns) / (double)CLOCK_NS_PER_S;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    progress_show(&l->screen, &(struct download_progress){
                                  .name = slash ? slash + 1 : l->path,
                                  .bytes = done,
                                  .size = (int64_t)total,
                                  .bytes_per_s = rate,
                                  .left_s = rate > 0 ? (double)(total - done) / rate : -1,
                              });
}

static int load(struct run *r, struct error *e)
{
    struct load l = { .path = r->path, .start_ns = clock_now_ns() };
    l.screen.next_ns = l.start_ns + PROGRESS_PLAIN_NS;
    r->local.path = r->conversation.model = r->path;
    r->local.on_progress = r->quiet ? NULL : on_progress;
    r->local.arg = &l;
    int result = local_model_open(&r->model, &r->local, e);
    progress_end(&l.screen);
    if (!result && !r->quiet)
        print_err("loaded in %.1f s, context %d\n",
                  (double)(clock_now_ns() - l.start_ns) / (double)CLOCK_NS_PER_S,
                  local_model_context(r->model));
    return result;
}

/* Who answers: this process, for a file, and for a model of the models folder where no device runs;
 * else the endpoint. */
static int choose(struct run *r, bool asks_first, struct error *e)
{
    const char *model = r->conversation.model;
    bool is_file = folders_is_file(model);
    if (!is_file && !is_alone(r))
        return asks_first ? client_find_model(r->url, model, e) : 0;
    int result = folders_find_model(model, r->models, r->path, e);
    if (result)
        return is_file ? result : wrap(e, "no device runs here (shoal up)");
    if (!is_file && !r->quiet)
        print_err("no device runs here (shoal up): this process answers\n");
    return load(r, e);
}

static int start(struct run *r, struct error *e)
{
    struct buffer prompt;
    buffer_init(&prompt, MAX_PROMPT);
    int result = read_piped(r->prompt, &prompt, e);
    if (!result && r->json && !prompt.size)
        result = fail(e, FAIL_ARG, "--json is for one prompt, not for a chat");
    if (!result)
        result = choose(r, !prompt.size, e);
    if (!result)
        result = conversation_init(&r->chat, &r->conversation, e);
    signal(SIGINT, on_interrupt); /* only now: until here Ctrl-C ends the program */
    if (!result)
        result = prompt.size ? ask(r, buffer_bytes(&prompt), e) : chat(r, e);
    local_model_close(r->model);
    conversation_done(&r->chat);
    buffer_done(&prompt);
    return result;
}

/* What was given in two shapes, one of them for other files. */
static int settle(struct run *r, struct error *e)
{
    r->conversation.stop = r->stop.values;
    r->conversation.n_stop = r->stop.n;
    r->conversation.silent = r->json;
    r->quiet = r->quiet || r->json;
    return client_url(r->given_url, r->url, e);
}

int cmd_run(int argc, char **argv)
{
    struct run r = { .conversation = { .temperature = -1, .top_p = -1, .seed = -1 } };
    const struct option_row rows[] = {
        OPTION_ARGUMENT("MODEL", &r.conversation.model,
                        "a served model's name, or a file or name of this machine"),
        OPTION_OPTIONAL_ARGUMENT("PROMPT", &r.prompt,
                                 "what is piped in comes behind it, or is it; without both: a "
                                 "chat, where /help tells more"),
        OPTION_TEXT("system", &r.conversation.system, "TEXT", "system message"),
        OPTION_REAL("temperature", &r.conversation.temperature, 0, 2, "T",
                    "0 to 2; 0: always the likeliest token"),
        OPTION_REAL("top-p", &r.conversation.top_p, 0, 1, "P",
                    "draw from the likeliest tokens that make up this share"),
        OPTION_INT("seed", &r.conversation.seed, 0, INT64_MAX / 1024, "N",
                   "of the sampling; the same again gives the same answer"),
        OPTION_INT("max-tokens", &r.conversation.max_tokens, 1, 1 << 24, "N", "of each answer"),
        OPTION_LIST("stop", &r.stop, "TEXT", "ends an answer where it would stand"),
        OPTION_FLAG("json", &r.json, "print the answer and what is known of it as JSON"),
        OPTION_FLAG("quiet", &r.quiet, "nothing but the answer"),
        OPTION_TEXT("url", &r.given_url, "URL", CLIENT_URL_HELP),
        OPTION_INT("context", &r.local.context, 16, 1 << 24, "N",
                   "of a file: most tokens of a session (what fits, up to 32768)"),
        OPTION_INT("threads", &r.local.threads, 1, 256, "N",
                   "of a file: of compute (all usable cores)"),
        OPTION_TEXT("isa", &r.local.isa, "NAME",
                    "of a file: kernels (the best that the processor has)"),
        OPTION_MODELS(&r.models),
    };
    const struct option_set set = { "run", rows, ARRAY_LEN(rows) };
    struct error e = { 0 };
    int status = EXIT_OK;
    if (!options_start(&set, argc, argv, &status))
        return status;
    if (settle(&r, &e)) {
        print_failure("run", &e);
        return EXIT_USAGE;
    }
    int result = start(&r, &e);
    if (result == FAIL_CANCELLED && atomic_load(&interrupted))
        return EXIT_INTERRUPTED; /* who typed Ctrl-C knows */
    if (result)
        print_failure("run", &e);
    return result == FAIL_ARG ? EXIT_USAGE : result ? EXIT_FAILED : EXIT_OK;
}
