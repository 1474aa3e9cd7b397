/* What OpenAI's two endpoints have in common: envelopes, chunks, usage, errors. */
#include "api/dialects/openai.h"

#include "api/sse.h"

static const struct openai_format *format_of(const struct answer *a)
{
    return a->dialect->own;
}

static json_t *usage_json(const struct answer *a)
{
    const struct engine_usage u = answer_usage(a);
    return json_pack("{s:i,s:i,s:I,s:{s:i}}", "prompt_tokens", u.prompt_tokens, "completion_tokens",
                     u.completion_tokens, "total_tokens",
                     (json_int_t)u.prompt_tokens + u.completion_tokens, "prompt_tokens_details",
                     "cached_tokens", u.cached_tokens);
}

/* What every object of an answer has, but for its choices. */
static json_t *envelope(const struct answer *a, const char *object)
{
    return json_pack("{s:s,s:s,s:I,s:s,s:s}", "id", a->id, "object", object, "created",
                     (json_int_t)a->created_s, "model", a->model, "system_fingerprint",
                     "shoal-" SHOAL_VERSION);
}

static const char *finish_text(const struct generate_end *end)
{
    return end->finish == FINISH_LENGTH ? "length" : "stop";
}

void openai_begin(struct answer *a)
{
    id_make(a->id, format_of(a)->id_prefix);
}

int openai_event(struct answer *a, const struct chat_event *e)
{
    const struct openai_format *f = format_of(a);
    json_t *choice = f->chunk(a, e, e->kind == CHAT_FINISH ? finish_text(e->end) : NULL);
    if (choice == NULL) {
        return 0;
    }
    json_t *choices = json_pack("[o]", choice);
    json_t *chunk = choices != NULL ? envelope(a, f->chunk_object) : NULL;
    json_object_set_new(chunk, "choices", choices);
    if (chunk != NULL && a->ask.include_usage) {
        json_object_set_new(chunk, "usage", json_null());
    }
    return sse_json(a->responder, chunk);
}

static void end_stream(struct answer *a, struct responder *r)
{
    if (a->ask.include_usage) {
        json_t *last = envelope(a, format_of(a)->chunk_object);
        json_object_set_new(last, "choices", json_array());
        json_object_set_new(last, "usage", usage_json(a));
        sse_json(r, last);
    }
    sse_done(r);
    r->ops->end(r);
}

/* The envelope with its choices last, in pieces. */
static void end_whole(struct answer *a, struct responder *r)
{
    const struct openai_format *f = format_of(a);
    struct pieces out;
    json_t *rest = envelope(a, f->object);
    json_object_set_new(rest, "usage", usage_json(a));
    pieces_begin(&out, r, 200);
    const char *key = NULL;
    json_t *value = NULL;
    pieces_text(&out, "{");
    json_object_foreach(rest, key, value)
    {
        pieces_json(&out, json_string(key));
        pieces_text(&out, ":");
        pieces_json(&out, json_incref(value));
        pieces_text(&out, ",");
    }
    pieces_text(&out, "\"choices\":[");
    for (int i = 0; i < a->n_choices; i++) {
        pieces_text(&out, i > 0 ? "," : "");
        f->whole(a, i, finish_text(&a->choices[i].end), &out);
        buffer_done(&a->choices[i].text);
        buffer_done(&a->choices[i].log);
    }
    pieces_text(&out, "]}");
    out.failed |= rest == NULL;
    json_decref(rest);
    pieces_end(&out);
}

void openai_end(struct answer *a, struct responder *r)
{
    if (a->ask.stream) {
        end_stream(a, r);
    } else {
        end_whole(a, r);
    }
}

void openai_error(struct responder *r, const struct api_problem *p, bool streaming)
{
    if (!streaming) {
        reply_problem(r, p);
        return;
    }
    sse_json(r, problem_json(p)); /* the status is out: the stream carries the error */
    r->ops->end(r);
}

int openai_keep_alive(struct answer *a, int done, int total)
{
    return sse_progress(a->responder, done, total);
}
