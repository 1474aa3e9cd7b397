/* An answer under way, as dialects see it. */
#ifndef SHOAL_API_ANSWER_H
#define SHOAL_API_ANSWER_H

#include "api/dialect.h"
#include "api/id.h"
#include "api/internal.h"
#include "chat/answers.h"
#include "chat/worker.h"

/* One of its choices: what has come of it, where it isn't streamed, and how it ended. */
struct choice {
    struct buffer text, log; /* log: tokens packed, see chat/event.h */
    size_t echo_length;      /* characters of text that are the prompt's */
    struct generate_end end;
};

/* Where it stands: a worker reads the body, then renders and encodes; then the engine answers. */
enum stage { STAGE_PARSE, STAGE_ENCODE, STAGE_ANSWER };

/* One request. owner: the event loop; while a task of it is out, the worker has what is marked so.
 */
struct answer {
    struct api *api;
    const struct dialect *dialect;
    struct answer *next, **back; /* of all */
    struct answer *next_ready;   /* under the API's lock */
    bool ready;                  /* likewise: in the list */
    bool task_done;              /* likewise */
    struct responder *responder; /* NULL once ended */
    char *path;                  /* owned */
    struct buffer body;          /* as it came; the worker's; freed once nobody may need it */
    size_t body_bytes;           /* counted in the API's, until the answer starts */
    enum stage stage;
    bool task_out;
    struct chat_task task;
    uint64_t deadline_ns;       /* of the tasks */
    struct api_problem problem; /* of a task; the worker's */
    struct ask ask;             /* from STAGE_PARSE's end on; the worker's */

    /* From STAGE_ENCODE on. */
    struct chat_model *text; /* acquired */
    int context, tokens;     /* tokens: ids are below it */
    struct prompts *prompts; /* owned; the worker's */
    char *model;             /* the served model's id, owned */
    const struct vocab *vocab;

    /* Of the answer itself. */
    char id[API_ID_TEXT]; /* the dialect's */
    int64_t created_s;
    uint64_t last_write_ns;
    bool begun;             /* a stream's head is out */
    uint64_t logprob_bytes; /* counted in the API's */
    struct chat_answers *answers;
    uint64_t seed; /* of the first choice */
    int n_choices;
    struct choice *choices; /* (n_choices), owned */
};

/* Takes a request: it is answered through the responder, now or later, in the dialect. */
void answer_start(struct api *a, const struct dialect *dialect, const struct api_request *request,
                  struct responder *responder);

/* What all choices used together. */
struct engine_usage answer_usage(const struct answer *a);

#endif
