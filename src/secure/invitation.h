/* Invitations: a text that lets one device join once, before it expires. */
#ifndef SHOAL_SECURE_INVITATION_H
#define SHOAL_SECURE_INVITATION_H

#include "base/bytes.h"
#include "base/error.h"

#include <stdbool.h>

#define INVITATION_ID 8
#define INVITATION_KEY 32
#define INVITATION_ADDRESSES 4      /* a laptop has about as many interfaces */
#define INVITATION_ADDRESS_TEXT 128 /* longest "host:port", NUL included */
/* "shoal1:" and the base64url of the longest content, NUL included. */
#define INVITATION_TEXT 800
#define INVITATION_HEAD 32 /* bytes of a device's id */
#define INVITATION_MAX 64  /* open ones of a device */
#define INVITATION_MAX_HOURS (24 * 30)

struct invitation {
    uint8_t id[INVITATION_ID];
    uint8_t key[INVITATION_KEY];
    int64_t expires_s; /* wall time, seconds since 1970 */
    int n_addresses;
    char addresses[INVITATION_ADDRESSES][INVITATION_ADDRESS_TEXT]; /* where to join */
    bool has_head;
    uint8_t head[INVITATION_HEAD]; /* the device that the joiner is to follow */
};

/* "shoal1:..."; the addresses' lengths are the caller's duty (they come from this struct). */
void invitation_format(char out[static INVITATION_TEXT], const struct invitation *i);

/* FAIL_FORMAT: says what is wrong. Expiry is not checked here. */
int invitation_parse(struct invitation *ret, struct bytes text, struct error *e);

/* A new one, remembered in HOME/invitations (mode 0600). The addresses and the head are filled in
 * by the caller afterwards. FAIL_RANGE for hours outside 1..INVITATION_MAX_HOURS; FAIL_LIMIT when
 * too many are open; FAIL_IO. Safe against other processes that use the same HOME. */
int invitation_create(struct invitation *ret, const char *home, int64_t now_s, int hours,
                      struct error *e);

/* Names the device that the joiner is to follow: the one of HOME where it made its cluster's key
 * itself, else whom it follows (HOME/head). Names nobody where that is not known. */
void invitation_name_head(struct invitation *i, const char *home);

/* The key of an open invitation: to check a joiner's proof. FAIL_NOT_FOUND for an unknown or used
 * one, FAIL_AUTH for an expired one; FAIL_IO. Never waits for another process. */
int invitation_find(uint8_t key[static INVITATION_KEY], const char *home,
                    const uint8_t id[static INVITATION_ID], int64_t now_s, struct error *e);

/* Uses it up, after the joiner has proved it. Errors as above, and FAIL_BUSY while another process
 * changes the list; one caller only gets 0. Never waits. */
int invitation_redeem(const char *home, const uint8_t id[static INVITATION_ID], int64_t now_s,
                      struct error *e);

#endif
