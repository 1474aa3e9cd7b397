/* Shared by the files of the API: jobs, and the hop from the head's thread to the event loop. */
#ifndef SHOAL_API_INTERNAL_H
#define SHOAL_API_INTERNAL_H

#include "api/api.h"
#include "api/id.h"
#include "api/openai_parse.h"
#include "api/problem.h"
#include "chat/generate.h"
#include "chat/model.h"
#include "os/thread.h"
#include "token/vocab.h"

#include <event2/event.h>

/* Text of one answer, and of all that waits for the event loop. */
#define API_MAX_TEXT (64u << 20)
/* JSON of the log probabilities of a whole answer, of one request and of all; streams keep none. A
 * context of 32,768 tokens with 20 alternatives each fits. */
#define API_MAX_LOGPROBS (128u << 20)
#define API_MAX_ALL_LOGPROBS (256u << 20)

struct job;
struct pieces;

/* One answer of a request. The inbox is filled on the head's thread under the API's lock, the rest
 * belongs to the event loop. */
struct choice {
    struct job *job;
    int index;
    struct generate *generate; /* NULL before the start */
    struct {
        struct buffer text, tokens; /* tokens: see job_tokens.c */
        bool ended;
        struct generate_end end;
        int done, total; /* of prefill */
    } inbox;
    struct buffer text, tokens; /* what the last look at the inbox brought */
    struct buffer answer, log;  /* text and tokens so far, where they aren't streamed */
    size_t text_offset;         /* completions: characters of the echo */
    bool announced;             /* the first chunk is out */
    bool ended;
    struct generate_end end;
};

/* What differs between the endpoints. */
struct job_format {
    const char *id_prefix, *object, *chunk_object;
    /* Parts of "choices". whole writes what answer and log have; chunk says text and its tokens,
     * packed, finish NULL where it isn't known yet. */
    void (*whole)(const struct choice *c, const char *finish, struct pieces *out);
    json_t *(*chunk)(const struct choice *c, struct bytes text, struct bytes tokens,
                     const char *finish);
};

extern const struct job_format job_format_chat, job_format_text;

/* One request that runs on an engine of this device. owner: the event loop. */
struct job {
    struct api *api;
    struct job *next, **back;    /* of all jobs */
    struct job *next_ready;      /* under the API's lock */
    bool ready;                  /* likewise: in the list */
    struct responder *responder; /* NULL once ended */
    const struct job_format *format;
    struct openai_request request;
    char id[API_ID_TEXT];
    char *model; /* the served model's id */
    const struct vocab *vocab;
    int64_t created_s;
    uint64_t last_write_ns;
    bool begun;             /* a stream's head is out */
    uint64_t logprob_bytes; /* counted in the API's */
    int n_running;
    int n_choices;
    struct choice *choices;
};

struct api {
    struct api_options options;
    struct mutex lock; /* the ready list and all inboxes */
    struct job *ready, **ready_end;
    evutil_socket_t wake[2]; /* written on the head's threads, read by the loop */
    struct event *wake_event, *timer;
    struct job *jobs;
    int n_jobs;
    uint64_t logprob_bytes; /* that the jobs' whole answers may grow to */
    bool stopped;
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

/* --- jobs --- */

/* Starts the request's answers; takes over the parsed request and the responder. prompts: ids of
 * each choice (n_choices), borrowed for the call. */
struct job_prompt {
    const int32_t *ids;
    int n;
    struct bytes echo; /* text in front of the answer */
};
void job_start(struct api *a, struct responder *responder, const struct api_model *model,
               struct openai_request *request, const struct job_prompt *prompts, int n_prompts);

/* Looks at the inboxes of all ready jobs. */
void jobs_drain(struct api *a);
/* Writes a comment to streams that have been silent for long. */
void jobs_keep_alive(struct api *a, uint64_t now_ns);
/* Ends all answers with 503. The engines are gone. */
void jobs_close(struct api *a);

/* Tokens packed, a tenth of what their JSON takes; each is called for each, in order. */
int tokens_pack(struct buffer *to, const struct generate_token *tokens, int n);
void tokens_each(struct bytes packed, void (*each)(void *arg, const struct generate_token *token),
                 void *arg);

/* Bytes as a JSON string; what isn't UTF-8 becomes U+FFFD. NULL without memory. */
json_t *text_json(struct bytes text);
/* Code points, counted as text_json writes them. */
size_t text_length(struct bytes text);

/* Refuses a path of an API that isn't spoken here; false: it is none. */
bool unspoken_answer(const char *path, size_t size, struct responder *r);

/* --- endpoints --- */

void chat_handle(struct api *a, const struct api_request *q, struct responder *r);
void completions_handle(struct api *a, const struct api_request *q, struct responder *r);
void models_list_handle(struct api *a, const struct api_request *q, struct responder *r);
void models_get_handle(struct api *a, const struct api_request *q, struct responder *r);
void status_handle(struct api *a, const struct api_request *q, struct responder *r);
void health_handle(struct api *a, const struct api_request *q, struct responder *r);

/* The model with this name: exact, else without regard to case and to a ".gguf" ending. */
bool models_find(const struct api *a, const char *name, struct api_model *ret);

/* Finds the request's model and sees to it that it is served here. Returns true with *ret; else
 * the request has been forwarded or answered and is done. */
bool models_route(struct api *a, const struct api_request *q, struct openai_request *request,
                  struct responder *r, struct api_model *ret);

/* Encodes a prompt and checks it against the context. user: ranges where control tokens are text,
 * or NULL. *ids is the caller's. param: the field. */
int prompt_encode(const struct api_model *model, struct bytes text, const struct spans *user,
                  const char *param, struct token_list *ids, struct api_problem *p);
/* Token ids that the model can be given are below this: some vocabularies have more tokens than the
 * model has weights for. */
int prompt_vocab(const struct api_model *model);
/* Checks token ids of the request's biases. */
int prompt_check_bias(const struct api_model *model, const struct openai_request *request,
                      struct api_problem *p);
int prompt_check_context(const struct api_model *model, size_t n, const char *param,
                         struct api_problem *p);

#endif
