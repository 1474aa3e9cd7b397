/* Splitting and joining addresses. Pure. */
#include "peer/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static int parse_port(const char *text, int *ret)
{
    int port = 0;
    if (*text == '\0') {
        return -1;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || (port = port * 10 + (*text - '0')) > 65535) {
            return -1;
        }
    }
    *ret = port;
    return port > 0 ? 0 : -1;
}

/* An IPv6 address, with or without a scope ("fe80::1%eth0"). */
static bool is_six(const char *text, size_t n)
{
    char plain[INET6_ADDRSTRLEN];
    struct in6_addr parsed;
    const char *scope = memchr(text, '%', n);
    n = scope != NULL ? (size_t)(scope - text) : n;
    if (n >= sizeof plain) {
        return false;
    }
    memcpy(plain, text, n);
    plain[n] = '\0';
    return inet_pton(AF_INET6, plain, &parsed) == 1;
}

int address_parse(const char *text, int default_port, char host[static ADDRESS_TEXT], int *port,
                  struct error *e)
{
    const char *begin = text, *end = NULL, *after = NULL;
    const char *colon = strrchr(text, ':');
    if (text[0] == '[') {
        begin = text + 1;
        end = strchr(begin, ']');
        after = end != NULL ? end + 1 : NULL;
    } else if (colon != NULL && strchr(text, ':') == colon) {
        end = after = colon;
    } else {
        end = after = text + strlen(text);
    }
    int n = default_port;
    size_t length = end != NULL ? (size_t)(end - begin) : 0;
    bool colons = length > 0 && memchr(begin, ':', length) != NULL;
    if ((colons || text[0] == '[') && !is_six(begin, length)) {
        return fail(e, FAIL_ARG,
                    "'%.100s' is not an address (an IPv6 address with a port: [ADDRESS]:PORT)",
                    text);
    }
    /* Room is kept for brackets, colon and port. */
    if (length == 0 || length + 9 > ADDRESS_TEXT || (*after != '\0' && *after != ':') ||
        (*after == ':' && parse_port(after + 1, &n) != 0)) {
        return fail(e, FAIL_ARG, "'%.100s' is not an address (host or host:port)", text);
    }
    memcpy(host, begin, length);
    host[length] = '\0';
    *port = n;
    return 0;
}

void address_join(const char *host, int port, char ret[static ADDRESS_TEXT])
{
    bool six = strchr(host, ':') != NULL;
    snprintf(ret, ADDRESS_TEXT, "%s%.64s%s:%d", six ? "[" : "", host, six ? "]" : "", port);
}

void address_of(const struct sockaddr *a, char ret[static ADDRESS_TEXT])
{
    char host[INET6_ADDRSTRLEN] = "unknown";
    int port = 0;
    if (a->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)a;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        port = ntohs(v4->sin_port);
    } else if (a->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *)a;
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        port = ntohs(v6->sin6_port);
    }
    bool mapped = strncmp(host, "::ffff:", 7) == 0 && strchr(host, '.') != NULL;
    address_join(mapped ? host + 7 : host, port, ret);
}

bool address_is_loopback(const char *text)
{
    char host[ADDRESS_TEXT];
    int port = 0;
    if (address_parse(text, 1, host, &port, NULL) != 0) {
        return false;
    }
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 ||
           strncmp(host, "::ffff:127.", 11) == 0 || strcmp(host, "localhost") == 0;
}

void address_source(const char *address, char ret[static ADDRESS_TEXT])
{
    char host[ADDRESS_TEXT];
    int port = 0;
    struct in6_addr six;
    if (address_parse(address, 1, host, &port, NULL) != 0) {
        snprintf(ret, ADDRESS_TEXT, "%.60s", address);
    } else if (inet_pton(AF_INET6, host, &six) == 1) {
        memset(six.s6_addr + 8, 0, 8);
        inet_ntop(AF_INET6, &six, ret, ADDRESS_TEXT);
    } else {
        memcpy(ret, host, sizeof host);
    }
}
