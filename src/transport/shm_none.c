/* Systems without sealed anonymous files and abstract socket names: no shm transport. */
#include "transport/transport.h"

static int unsupported(struct error *e)
{
    return fail(e, FAIL_UNSUPPORTED, "this system has no shm transport");
}

int shm_listen(int *fd, char token[static SHM_TOKEN], struct error *e)
{
    (void)fd;
    (void)token;
    return unsupported(e);
}

int shm_offer(struct shm_offer **ret, const char *token,
              const uint8_t preamble[static PREAMBLE_BYTES], const struct channel_options *options,
              struct error *e)
{
    (void)ret;
    (void)token;
    (void)preamble;
    (void)options;
    return unsupported(e);
}

int shm_offer_fd(const struct shm_offer *offer)
{
    (void)offer;
    return -1;
}

int shm_offer_finish(struct channel **ret, struct shm_offer *offer,
                     const uint8_t answer[static SHM_ANSWER], struct error *e)
{
    (void)ret;
    (void)offer;
    (void)answer;
    return unsupported(e);
}

void shm_offer_close(struct shm_offer *offer)
{
    (void)offer;
}

int shm_take(struct shm_parcel *ret, int listener, struct error *e)
{
    (void)ret;
    (void)listener;
    return unsupported(e);
}

int shm_join(struct channel **ret, struct shm_parcel *parcel,
             const uint8_t answer[static SHM_ANSWER], const struct channel_options *options,
             struct error *e)
{
    (void)ret;
    (void)parcel;
    (void)answer;
    (void)options;
    return unsupported(e);
}

void shm_refuse(struct shm_parcel *parcel)
{
    (void)parcel;
}
