/* See conversation.h. */
#include "cli/conversation.h"

#include "base/display.h"
#include "cli/client.h"
#include "cli/print.h"
#include "os/clock.h"
#include "os/terminal.h"

#include <stdio.h>
#include <string.h>

#define MAX_LINE ((size_t)4 << 20)
#define MAX_ANSWER ((size_t)64 << 20)
/* A rate of fewer tokens is noise. */
#define RATE_TOKENS 16

int conversation_init(struct conversation *c, const struct conversation_options *o, struct error *e)
{
    *c = (struct conversation){ .options = *o };
    buffer_init(&c->line, MAX_LINE);
    buffer_init(&c->answer, MAX_ANSWER);
    buffer_init(&c->failure, MAX_LINE);
    c->messages = json_array();
    if (!c->messages)
        return fail(e, FAIL_NOMEM, "a conversation");
    conversation_clear(c);
    if (o->system && !json_array_size(c->messages))
        return fail(e, FAIL_ARG, "the system message is not UTF-8 text");
    return 0;
}

void conversation_clear(struct conversation *c)
{
    const char *system = c->options.system;
    json_array_clear(c->messages);
    if (system)
        json_array_append_new(c->messages,
                              json_pack("{s:s, s:s}", "role", "system", "content", system));
}

void conversation_done(struct conversation *c)
{
    json_decref(c->messages);
    buffer_done(&c->line);
    buffer_done(&c->answer);
    buffer_done(&c->failure);
}

static int add_options(json_t *request, const struct conversation_options *o)
{
    int failed = 0;
    if (o->temperature >= 0)
        failed |= json_object_set_new(request, "temperature", json_real(o->temperature));
    if (o->top_p >= 0)
        failed |= json_object_set_new(request, "top_p", json_real(o->top_p));
    if (o->seed >= 0)
        failed |= json_object_set_new(request, "seed", json_integer(o->seed));
    if (o->max_tokens > 0)
        failed |=
            json_object_set_new(request, "max_completion_tokens", json_integer(o->max_tokens));
    if (o->n_stop > 0) {
        json_t *stop = json_array();
        for (int i = 0; i < o->n_stop; i++)
            failed |= json_array_append_new(stop, json_string(o->stop[i]));
        failed |= json_object_set_new(request, "stop", stop);
    }
    return failed;
}

int conversation_ask(struct conversation *c, struct bytes text, char **body, struct error *e)
{
    const uint8_t *nul = text.size ? memchr(text.data, 0, text.size) : NULL;
    if (nul)
        return fail(e, FAIL_ARG, "the prompt is no text: byte %zu is NUL",
                    (size_t)(nul - text.data));
    json_t *message = json_pack("{s:s, s:s%}", "role", "user", "content",
                                text.size ? (const char *)text.data : "", text.size);
    if (!message)
        return fail(e, FAIL_ARG, "the prompt is not UTF-8 text");
    json_array_append_new(c->messages, message);
    json_t *request = json_pack("{s:s, s:O, s:b, s:{s:b}}", "model", c->options.model, "messages",
                                c->messages, "stream", 1, "stream_options", "include_usage", 1);
    bool made = request && add_options(request, &c->options) == 0;
    *body = made ? json_dumps(request, JSON_COMPACT) : NULL;
    json_decref(request);
    buffer_clear(&c->line);
    buffer_clear(&c->answer);
    buffer_clear(&c->failure);
    c->ended = false;
    c->finish[0] = '\0';
    c->wrap = (struct wrap){ 0 };
    c->first_ns = 0;
    c->prompt_tokens = c->cached_tokens = c->completion_tokens = 0;
    c->asked_ns = clock_now_ns();
    if (*body)
        return 0;
    json_array_remove(c->messages, json_array_size(c->messages) - 1);
    return fail(e, FAIL_ARG, "an option's text is not UTF-8, or memory is out");
}

/* A piece of the answer: as it is into a file or a pipe, in whole words on a terminal. */
static int show(struct conversation *c, struct bytes piece)
{
    if (c->options.silent)
        return 0;
    if (!print_moves_cursor()) {
        print_text(piece);
        return print_flush(NULL);
    }
    struct buffer fit, broken;
    buffer_init(&fit, SIZE_MAX);
    buffer_init(&broken, SIZE_MAX);
    int r = display_append(&fit, piece, DISPLAY_TEXT);
    r = r ? r : wrap_add(&c->wrap, buffer_bytes(&fit), (size_t)terminal_output_columns(), &broken);
    print_shown(buffer_bytes(&broken));
    buffer_done(&fit);
    buffer_done(&broken);
    return r ? r : print_flush(NULL);
}

static void take_usage(struct conversation *c, const json_t *usage)
{
    if (!json_is_object(usage))
        return;
    const json_t *details = json_object_get(usage, "prompt_tokens_details");
    c->prompt_tokens = (int)json_integer_value(json_object_get(usage, "prompt_tokens"));
    c->completion_tokens = (int)json_integer_value(json_object_get(usage, "completion_tokens"));
    c->cached_tokens = (int)json_integer_value(json_object_get(details, "cached_tokens"));
}

static int take_choice(struct conversation *c, const json_t *choice)
{
    const json_t *content = json_object_get(json_object_get(choice, "delta"), "content");
    const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
    struct bytes piece = bytes_of(json_string_value(content), json_string_length(content));
    if (finish)
        snprintf(c->finish, sizeof c->finish, "%s", finish);
    if (piece.size == 0)
        return 0;
    c->last_ns = clock_now_ns();
    c->first_ns = c->first_ns ? c->first_ns : c->last_ns;
    int r = buffer_append(&c->answer, piece);
    return r ? r : show(c, piece);
}

/* One event's JSON: a piece of text, usage, or an error in mid-stream. */
static int take_event(struct conversation *c, const char *text)
{
    if (strcmp(text, "[DONE]") == 0) {
        c->ended = true;
        return 0;
    }
    json_t *event = json_loads(text, JSON_ALLOW_NUL, NULL);
    int r = 0;
    if (!json_is_object(event) || json_object_get(event, "error")) {
        r = buffer_text(&c->failure, text);
    } else {
        take_usage(c, json_object_get(event, "usage"));
        r = take_choice(c, json_array_get(json_object_get(event, "choices"), 0));
    }
    json_decref(event);
    return r;
}

int conversation_take(void *arg, struct bytes data)
{
    struct conversation *c = arg;
    int r = 0;
    for (size_t i = 0; i < data.size && !r; i++) {
        if (data.data[i] != '\n') {
            r = buffer_u8(&c->line, data.data[i]);
            continue;
        }
        const char *line = buffer_cstr(&c->line);
        if (strncmp(line, "data: ", 6) == 0)
            r = take_event(c, line + 6);
        else if (line[0] && line[0] != ':' && line[0] != '\r') /* no event stream: an error */
            r = buffer_text(&c->failure, line);
        buffer_clear(&c->line);
    }
    return r;
}

int conversation_finish(struct conversation *c, long status, int result, struct error *e)
{
    if (c->line.size) /* the body of an error may end without a line's end */
        buffer_append(&c->failure, buffer_bytes(&c->line));
    if (!result && (status >= 400 || c->failure.size)) {
        char text[256];
        client_error_text(buffer_bytes(&c->failure), text, sizeof(text));
        result = fail(e, FAIL_IO, "%s", text[0] ? text : "the answer ended without a reason");
    } else if (!result && !c->ended) {
        result = fail(e, FAIL_CLOSED, "the connection ended before the answer did");
    }
    if (c->answer.size)
        json_array_append_new(c->messages, json_pack("{s:s, s:s%}", "role", "assistant", "content",
                                                     buffer_cstr(&c->answer), c->answer.size));
    else
        json_array_remove(c->messages, json_array_size(c->messages) - 1);
    return result;
}

/* "prefill 120 tokens, 830.1/s": both phases fit a line of 80 columns. */
static void print_phase(const char *name, int tokens, int counted, double seconds)
{
    print_err("%s %d tokens", name, tokens);
    if (counted >= RATE_TOKENS && seconds > 0)
        print_err(", %.1f/s", counted / seconds);
}

void conversation_print_rates(const struct conversation *c)
{
    if (!c->first_ns)
        return;
    double prefill = (double)(c->first_ns - c->asked_ns) / (double)CLOCK_NS_PER_S;
    double decode = (double)(c->last_ns - c->first_ns) / (double)CLOCK_NS_PER_S;
    print_err("[");
    print_phase("prefill", c->prompt_tokens, c->prompt_tokens - c->cached_tokens, prefill);
    if (c->cached_tokens)
        print_err(" (%d cached)", c->cached_tokens);
    print_err("; ");
    print_phase("decode", c->completion_tokens, c->completion_tokens - 1, decode);
    print_err("]\n");
}

void conversation_print_cut(const struct conversation *c)
{
    bool asked = c->options.max_tokens > 0 && c->completion_tokens >= c->options.max_tokens;
    if (strcmp(c->finish, "length") == 0 && asked)
        print_err("[the answer is cut at %d token%s: --max-tokens]\n", (int)c->options.max_tokens,
                  c->options.max_tokens > 1 ? "s" : "");
    else if (strcmp(c->finish, "length") == 0)
        print_err(
            "[the answer is cut: prompt and answer have no more room in the model's context]\n");
    else if (c->finish[0] && strcmp(c->finish, "stop") != 0)
        print_err("[the answer ended early: %s]\n", c->finish);
}

int conversation_print_json(const struct conversation *c, struct error *e)
{
    return print_json(json_pack("{s:s, s:s%, s:s, s:i, s:i, s:i}", "model", c->options.model,
                                "answer", buffer_cstr(&c->answer), c->answer.size, "finish_reason",
                                c->finish, "prompt_tokens", c->prompt_tokens, "cached_tokens",
                                c->cached_tokens, "completion_tokens", c->completion_tokens),
                      e);
}
