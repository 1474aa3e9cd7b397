/* What is wrong with a request, in OpenAI's shape. */
#include "api/problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/text.h"

int problem_set(struct api_problem *p, int status, const char *code, const char *param,
                const char *format, ...)
{
    p->status = status;
    p->code = code;
    snprintf(p->param, sizeof p->param, "%s", param ? param : "");
    va_list args;
    va_start(args, format);
    vsnprintf(p->message, sizeof p->message, format, args);
    va_end(args);
    return -1;
}

int problem_from_error(struct api_problem *p, const struct error *e)
{
    switch (e->code) {
    case FAIL_LIMIT:
        return problem_set(p, 400, "context_length_exceeded", NULL,
                           "This model's maximum context length is exceeded: %s.", e->text);
    case FAIL_BUSY:
        return problem_set(p, 429, "rate_limit_exceeded", NULL,
                           "All places are taken: %s. Try again soon.", e->text);
    case FAIL_CLOSED:
    case FAIL_TIMEOUT:
        return problem_set(p, 503, "service_unavailable", NULL, "%s", e->text);
    default:
        return problem_set(p, 500, NULL, NULL, "%s", e->text);
    }
}

static const char *type_of(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 429:
        return "rate_limit_error";
    case 503:
        return "service_unavailable_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

json_t *problem_json(const struct api_problem *p)
{
    json_t *param = p->param[0] != '\0' ? text_json(bytes_text(p->param)) : json_null();
    return json_pack("{s{s:o,s:s,s:o,s:s?}}", "error", "message", text_json(bytes_text(p->message)),
                     "type", type_of(p->status), "param", param, "code", p->code);
}
