/* Other APIs' paths: refused in words that their clients show, in the shape that they read.
 *
 * Not with 404 (Claude Code then blames the model's name) nor 5xx (all SDKs try those again). */
#include "api/internal.h"

#include <string.h>

#include "base/attributes.h"

enum shape { SHAPE_OPENAI, SHAPE_ANTHROPIC, SHAPE_OLLAMA };

struct unspoken {
    const char *path; /* and what begins like it */
    const char *name;
    enum shape shape;
};

static const struct unspoken table[] = {
    { "/v1/messages", "Anthropic's messages API", SHAPE_ANTHROPIC },
    { "/v1/responses", "OpenAI's responses API", SHAPE_OPENAI },
    { "/v1/embeddings", "embeddings", SHAPE_OPENAI },
    { "/api/chat", "Ollama's API", SHAPE_OLLAMA },
    { "/api/generate", "Ollama's API", SHAPE_OLLAMA },
    { "/api/embed", "Ollama's API", SHAPE_OLLAMA },
    { "/api/tags", "Ollama's API", SHAPE_OLLAMA },
    { "/api/show", "Ollama's API", SHAPE_OLLAMA },
    { "/api/pull", "Ollama's API", SHAPE_OLLAMA },
};

static json_t *shaped(enum shape shape, const struct api_problem *p)
{
    switch (shape) {
    case SHAPE_ANTHROPIC:
        return json_pack("{s:s,s:{s:s,s:s}}", "type", "error", "error", "type",
                         "invalid_request_error", "message", p->message);
    case SHAPE_OLLAMA:
        return json_pack("{s:s}", "error", p->message);
    default:
        return problem_json(p);
    }
}

bool unspoken_answer(const char *path, size_t size, struct responder *r)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        size_t n = strlen(table[i].path);
        if (size < n || memcmp(path, table[i].path, n) != 0) {
            continue;
        }
        struct api_problem p = { 0 };
        problem_set(&p, 400, "unsupported_api", NULL,
                    "shoal doesn't speak %s yet: it answers OpenAI's chat completions "
                    "(POST /v1/chat/completions) and completions (POST /v1/completions).",
                    table[i].name);
        reply_json(r, p.status, shaped(table[i].shape, &p), NULL);
        return true;
    }
    return false;
}
