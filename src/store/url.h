/* Addresses of files: what they are called, where they lead, and how they are shown. Parsed by
 * libcurl, so that what is checked is what is asked for. */
#ifndef SHOAL_STORE_URL_H
#define SHOAL_STORE_URL_H

#include "base/bytes.h"
#include "base/error.h"

#include <stdbool.h>

#define URL_TEXT 8192       /* a signed address of a content network has about 3,000 bytes */
#define URL_ORIGIN_TEXT 512 /* a host's name has at most 255 */
#define URL_LOGIN_TEXT 512  /* NAME:PASSWORD */
#define STORE_NAME_TEXT 208 /* with ".part" and what else is put behind it below 255 */
#define STORE_NAME_END ".gguf"

/* An http or https address in its parts. */
struct url {
    char clean[URL_TEXT];         /* without login and fragment: this is asked for */
    char origin[URL_ORIGIN_TEXT]; /* "https://host:443" */
    char login[URL_LOGIN_TEXT];   /* "name:password" as typed before the host, or "" */
    char path[URL_TEXT];          /* "/a/b%20c.gguf", as in the address */
    bool encrypted;               /* https */
};

/* FAIL_ARG for anything but a well-formed http or https address; the text doesn't repeat a
 * password. */
int url_parse(const char *text, struct url *ret, struct error *e);

/* Where a redirection of `from` leads. FAIL_FORMAT if that is no http or https address, has a login
 * of its own, or leaves https for http. */
int url_redirect(const struct url *from, const char *location, struct url *ret, struct error *e);

/* For people: without login and query, which may hold secrets; cut at size. */
void url_show(const struct url *u, char *ret, size_t size);

/* The last part of the path, decoded and made harmless by name_clean(). FAIL_ARG. */
int url_name(const struct url *u, char ret[static STORE_NAME_TEXT], struct error *e);

/* A file's name from outside as one that can't leave its folder: no separators, control
 * characters, leading dots or characters that other systems give a meaning to (each becomes '_'),
 * and with ".gguf" at its end. FAIL_ARG when nothing is left or it is too long. */
int name_clean(struct bytes text, char ret[static STORE_NAME_TEXT], struct error *e);

/* Part number and count of a split model's file name ("NAME-00002-of-00003.gguf"); false for
 * another name. ret_at is the offset of the five digits of the number. */
bool name_is_part(const char *name, int *ret_part, int *ret_parts, size_t *ret_at);

/* Appends text with everything but letters, digits and "-._~" (and '/' if keep_slash) as %XX;
 * false when it doesn't fit. */
bool url_escape(const char *text, bool keep_slash, char *ret, size_t size);

#endif
