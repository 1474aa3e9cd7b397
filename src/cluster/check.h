/* A part's file: found, opened, hashed and compared with what the head says of the model's bytes,
 * all in a thread of its own, beside the rank that loads it.
 *
 * A rank may serve when one chunk of every tensor is the head's, or, where the head knows all of
 * the model, every chunk that the rank reads. Once both know all of it, all is compared. */
#ifndef SHOAL_CLUSTER_CHECK_H
#define SHOAL_CLUSTER_CHECK_H

#include "cluster/order.h"

struct check;
struct hasher;
struct source;

struct check_options {
    struct hasher *hasher;           /* borrowed until check_close */
    const struct part_order *order;  /* copied */
    const struct model_list *models; /* this device's; copied */
    const char *folder;              /* that they come from; copied */
    /* The head's own part: this very file, and nothing to compare. NULL: whichever file is the
     * model. Copied. */
    const struct model_file *own;
    int threads; /* of hashing */
    /* Called in the check's thread whenever its state has changed. */
    void (*on_state)(void *arg);
    void *arg;
};

enum check_state {
    CHECK_FINDING,  /* looks for the file, opens it */
    CHECK_OPENED,   /* the source can be taken, and the part loaded */
    CHECK_VERIFIED, /* the part may serve */
    CHECK_FAILED    /* also after it served: its bytes are not the head's */
};

/* Starts at once. FAIL_NOMEM. */
int check_open(struct check **ret, const struct check_options *options, struct error *e);
/* The part has been loaded: what is left is hashed in the background. */
void check_loaded(struct check *k);
/* Asks the thread to end soon; true once it has. NULL has ended. */
void check_stop(struct check *k);
bool check_ended(const struct check *k);
/* Waits for the thread and frees everything, also a source that nobody took. */
void check_close(struct check *k);

/* *why is set when it has failed. */
enum check_state check_state(const struct check *k, struct error *why);
/* The opened model, once; NULL before and after. The caller owns it. */
struct source *check_take_source(struct check *k);
/* Bytes hashed, and how many there are to hash before the part may serve. */
void check_progress(const struct check *k, uint64_t *done, uint64_t *all);

/* A message "claim" from the head. FAIL_FORMAT, FAIL_NOMEM. */
int check_take(struct check *k, const json_t *m, struct error *e);

struct chunks;
struct program;

/* The chunks that a rank's part of a model reads. Both owned by whoever asked. */
struct check_share {
    uint8_t *selection;
    uint64_t *order; /* (n) in the order in which they are read */
    uint64_t n;
};

/* FAIL_NOMEM, FAIL_UNSUPPORTED when the model can't be cut or split this way. */
int check_share(const struct chunks *list, const struct program *whole,
                const struct placement_plan *plan, int rank, struct check_share *ret,
                struct error *e);

#endif
