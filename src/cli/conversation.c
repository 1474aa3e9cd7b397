/* See conversation.h. */
#include "cli/conversation.h"

#include "cli/client.h"
#include "cli/print.h"
#include "os/clock.h"

#include <stdio.h>
#include <string.h>

#define MAX_LINE ((size_t)4 << 20)
#define MAX_ANSWER ((size_t)64 << 20)

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

int conversation_ask(struct conversation *c, const char *text, char **body, struct error *e)
{
    json_t *message = json_pack("{s:s, s:s}", "role", "user", "content", text);
    if (!message)
        return fail(e, FAIL_ARG, "the prompt is not UTF-8 text");
    json_array_append_new(c->messages, message);
    json_t *request = json_pack("{s:s, s:O, s:b, s:{s:b}}", "model", c->options.model, "messages",
                                c->messages, "stream", 1, "stream_options", "include_usage", 1);
    if (request && c->options.temperature >= 0)
        json_object_set_new(request, "temperature", json_real(c->options.temperature));
    if (request && c->options.seed >= 0)
        json_object_set_new(request, "seed", json_integer(c->options.seed));
    if (request && c->options.max_tokens > 0)
        json_object_set_new(request, "max_completion_tokens", json_integer(c->options.max_tokens));
    *body = request ? json_dumps(request, JSON_COMPACT) : NULL;
    json_decref(request);
    buffer_clear(&c->line);
    buffer_clear(&c->answer);
    buffer_clear(&c->failure);
    c->ended = false;
    c->first_ns = 0;
    c->asked_ns = clock_now_ns();
    return *body ? 0 : fail(e, FAIL_NOMEM, "a request");
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

/* One event's JSON: a piece of text, usage, or an error in mid-stream. */
static int take_event(struct conversation *c, const char *text)
{
    if (strcmp(text, "[DONE]") == 0) {
        c->ended = true;
        return 0;
    }
    json_t *event = json_loads(text, 0, NULL);
    int r = 0;
    if (!json_is_object(event) || json_object_get(event, "error")) {
        r = buffer_text(&c->failure, text);
    } else {
        const json_t *choice = json_array_get(json_object_get(event, "choices"), 0);
        const char *piece =
            json_string_value(json_object_get(json_object_get(choice, "delta"), "content"));
        take_usage(c, json_object_get(event, "usage"));
        if (piece && piece[0]) {
            c->last_ns = clock_now_ns();
            c->first_ns = c->first_ns ? c->first_ns : c->last_ns;
            r = buffer_text(&c->answer, piece);
            print_text(bytes_text(piece));
            r = r ? r : print_flush(NULL);
        }
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
        json_array_append_new(c->messages, json_pack("{s:s, s:s}", "role", "assistant", "content",
                                                     buffer_cstr(&c->answer)));
    else
        json_array_remove(c->messages, json_array_size(c->messages) - 1);
    return result;
}

void conversation_print_rates(const struct conversation *c)
{
    if (!c->first_ns)
        return;
    double prefill = (double)(c->first_ns - c->asked_ns) / (double)CLOCK_NS_PER_S;
    double decode = (double)(c->last_ns - c->first_ns) / (double)CLOCK_NS_PER_S;
    int fresh = c->prompt_tokens - c->cached_tokens;
    print_err("[prefill %d tokens (%d cached), %.1f tokens/s; decode %d tokens", c->prompt_tokens,
              c->cached_tokens, prefill > 0 ? fresh / prefill : 0, c->completion_tokens);
    if (c->completion_tokens > 1 && decode > 0)
        print_err(", %.1f tokens/s", (c->completion_tokens - 1) / decode);
    print_err("]\n");
}
