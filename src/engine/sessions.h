/* Sessions of an executor and the room they share: those of running requests, and those kept
 * behind a request because the next one may begin alike (the prefix cache). There is one account:
 * pages of KV and places for states, out of what the executor was granted; what is kept gives way
 * to what runs. Pure; commands come out. owner: the head thread. */
#ifndef SHOAL_ENGINE_SESSIONS_H
#define SHOAL_ENGINE_SESSIONS_H

#include "engine/checkpoint.h"

#include <stdint.h>

/* Positions are counted in whole pages of this many, as backends keep them. */
#define SESSION_PAGE 64
/* Sessions and checkpoints at the most. Each will need one command more (to free it): with
 * COMMANDS_MANY waiting and all in use there is still room to begin something. */
#define SESSIONS_MAX 1024

/* What an executor grants. */
struct sessions_grant {
    int max_sessions; /* states at once: sessions and checkpoints; at most SESSIONS_MAX count */
    uint64_t tokens;  /* positions of all of them, up to a whole page */
    bool can_truncate;
};

struct session {
    bool used;
    bool active; /* a request's; else kept */
    uint32_t id;
    int pages; /* granted while active, held while kept */
    struct checkpoints checkpoints;
    int32_t *tokens; /* (n), owned: what a kept one holds */
    int n;
    uint64_t last_used;
};

struct sessions {
    struct sessions_grant grant;
    struct commands *commands; /* borrowed */
    struct session *slots;     /* (grant.max_sessions) */
    uint32_t next_id;          /* never used again, whatever the executor */
    uint64_t clock;            /* counts uses */
};

/* An empty account; nothing is told to an executor. init may be called again for another executor
 * after forget. FAIL_NOMEM. done takes a zeroed one. */
int sessions_init(struct sessions *s, const struct sessions_grant *grant, struct commands *commands,
                  struct error *e);
void sessions_done(struct sessions *s);

/* The executor is gone, and every session with it: pointers to them are no longer valid. */
void sessions_forget(struct sessions *s);

/* Positions that all sessions together may hold. */
uint64_t sessions_capacity(const struct sessions *s);

/* What a request begins with. */
struct sessions_ask {
    const int32_t *tokens; /* (n) borrowed */
    int n;                 /* at least 1 */
    int positions;         /* that there must be room for, >= n */
    int most_reused;       /* of the beginning; the rest is computed in any case */
};

/* A session for the request, which holds its first *reused tokens already; NULL while there is no
 * room. What it may come to hold grows by sessions_grow. */
struct session *sessions_take(struct sessions *s, const struct sessions_ask *ask, int *reused);

/* Room for so many positions in all; false when what runs holds everything else. */
bool sessions_grow(struct sessions *s, struct session *x, int positions);

/* The request goes; the session, which holds these tokens, is kept for another if it is worth it.
 * Nothing may be in flight for it. NULL is fine. */
void sessions_leave(struct sessions *s, struct session *x, const int32_t *tokens, int n);

/* Before x, which holds `position` tokens, goes on: remembers its state there when that is due. */
void sessions_checkpoint(struct sessions *s, struct session *x, int position, int n_prompt);

/* Pages and places in use, of what was granted. */
int sessions_pages(const struct sessions *s);
int sessions_in_use(const struct sessions *s);

#endif
