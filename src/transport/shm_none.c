/* Systems without sealed anonymous files and abstract socket names: no shm transport. */
#include "transport/transport.h"

int shm_offer(struct shm_offer **ret, char token[static SHM_TOKEN],
              const struct channel_options *options, struct error *e)
{
    (void)ret;
    (void)token;
    (void)options;
    return fail(e, ERR_UNSUPPORTED, "this system has no shm transport");
}

int shm_offer_wait(struct channel **ret, struct shm_offer *offer, uint64_t deadline_ns,
                   struct error *e)
{
    (void)ret;
    (void)offer;
    (void)deadline_ns;
    return fail(e, ERR_UNSUPPORTED, "this system has no shm transport");
}

void shm_offer_close(struct shm_offer *offer)
{
    (void)offer;
}

int shm_accept(struct channel **ret, const char *token, const struct channel_options *options,
               uint64_t deadline_ns, struct error *e)
{
    (void)ret;
    (void)token;
    (void)options;
    (void)deadline_ns;
    return fail(e, ERR_UNSUPPORTED, "this system has no shm transport");
}
