/* Shared by the files of the API. */
#ifndef SHOAL_API_INTERNAL_H
#define SHOAL_API_INTERNAL_H

#include "api/api.h"
#include "api/id.h"
#include "api/problem.h"
#include "api/text.h"
#include "chat/answers.h"
#include "chat/model.h"
#include "os/thread.h"
#include "token/vocab.h"

#include <event2/event.h>
#include <stdatomic.h>

/* Text of one answer, and of all that waits for the event loop. */
#define API_MAX_TEXT (64u << 20)
/* JSON of the log probabilities of a whole answer, of one request and of all; streams keep none. A
 * context of 32,768 tokens with 20 alternatives each fits. */
#define API_MAX_LOGPROBS (128u << 20)
#define API_MAX_ALL_LOGPROBS (256u << 20)
/* Bodies of requests that workers have or that wait for one. */
#define API_MAX_BODIES (256u << 20)

struct answer;
struct chat_workers;
struct pieces;
struct prompts;

struct api {
    struct api_options options;
    struct mutex lock; /* the ready list */
    struct answer *ready, **ready_end;
    evutil_socket_t wake[2]; /* written on any thread, read by the loop */
    struct event *wake_event, *timer;
    struct chat_workers *workers; /* NULL once stopped */
    struct answer *answers;
    int n_answers;
    uint64_t logprob_bytes; /* that whole answers may grow to */
    uint64_t body_bytes;    /* of requests that are being read, rendered, encoded */
    bool stopped;
    atomic_bool stopping; /* workers do nothing more */
};

/* --- answers --- */

/* A whole JSON answer; json is stolen (NULL: 500). */
void reply_json(struct responder *r, int status, json_t *json, const char *headers);
void reply_problem(struct responder *r, const struct api_problem *p);

/* A large answer in pieces: JSON as it is made, so that neither its tree nor its text is ever held
 * twice. pieces_end writes the rest and ends the answer; where something failed, which only want of
 * memory or a lost client does, it is cut and so isn't JSON. */
struct pieces {
    struct responder *responder;
    struct buffer text;
    bool failed;
};
void pieces_begin(struct pieces *p, struct responder *r, int status);
void pieces_text(struct pieces *p, const char *text);
void pieces_json(struct pieces *p, json_t *value); /* stolen; NULL: out of memory */
void pieces_end(struct pieces *p);

/* --- answers under way: answer.c --- */

/* Serves those that workers and engines have something for. */
void answers_drain(struct api *a);
/* Writes to streams that have been silent for long. */
void answers_keep_alive(struct api *a, uint64_t now_ns);
/* Ends all with 503. Workers and engines are gone. */
void answers_close(struct api *a);

/* Refuses a path of an API that isn't spoken here; false: it is none. */
bool unspoken_answer(const char *path, size_t size, struct responder *r);

/* --- endpoints --- */

void models_list_handle(struct api *a, const struct api_request *q, struct responder *r);
void models_get_handle(struct api *a, const struct api_request *q, struct responder *r);
void status_handle(struct api *a, const struct api_request *q, struct responder *r);
void health_handle(struct api *a, const struct api_request *q, struct responder *r);

/* The model with this name: exact, else without regard to case and to a ".gguf" ending. */
bool models_find(const struct api *a, const char *name, struct api_model *ret);

/* The model that a request names: served here (engine), or elsewhere if requests can be forwarded.
 * Returns 0, or -1 with the problem. */
int models_serving(struct api *a, const char *name, struct api_model *ret, struct api_problem *p);

/* --- prompts --- */

/* What making a prompt needs of a model; it outlives the model's placement. */
struct prompt_model {
    const char *id;
    struct chat_model *text;
    int context;
    int tokens; /* ids are below it: some vocabularies have more than the model has weights for */
};

/* Renders and encodes all prompts of a request and checks them against the model's context. Any
 * thread. Returns 0, or -1 with the problem. */
int prompts_make(struct prompts **ret, const struct prompt_model *model,
                 const struct chat_request *q, uint64_t deadline_ns, struct api_problem *p);
/* NULL is fine. */
void prompts_free(struct prompts *all);
/* Prompt number i; borrowed until prompts_free. */
struct chat_start prompts_at(const struct prompts *all, int i);

#endif
