/* A model made of scripts, behind the real engine, and a client on the server's event loop. */
#ifndef SHOAL_TESTS_API_MOCK_H
#define SHOAL_TESTS_API_MOCK_H

#include "api/api.h"
#include "api/server.h"
#include "base/buffer.h"
#include "engine/engine.h"

#include <event2/event.h>

/* Positions of one session, ids of the vocabulary: 256 bytes and an end token. */
#define MOCK_CONTEXT 512
#define MOCK_VOCAB 257
#define MOCK_END 256

/* Paths, and bodies without their last brace: for the scripts h and l. */
#define CHAT "/v1/chat/completions"
#define TEXT "/v1/completions"
#define HELLO "{\"model\":\"Mock-1\",\"messages\":[{\"role\":\"user\",\"content\":\"h\"}]"
#define ENDLESS "{\"model\":\"Mock-1\",\"messages\":[{\"role\":\"user\",\"content\":\"l\"}]"

/* One token more than the model has weights for. */
struct vocab *mock_vocab(bool adds_eos);

/* The script is the letter before the last '>' of the prompt:
 *   h  "Hello, world!" and the end      e  "a😀b" and the end
 *   l  "abcdefghij" for ever            b  an error that breaks the executor
 *   r  any byte, all alike              n  no numbers
 * While the gate is closed no step ends. */
struct mock;
struct executor *mock_executor(struct mock **ret);
/* Any thread. */
void mock_gate(struct mock *m, bool open);

/* A server with one model "Mock-1" on loopback, a model "far" that is elsewhere,
 * and one "late" that isn't ready. */
struct rig {
    struct event_base *base;
    struct mock *mock;
    struct engine *engine;
    struct chat_model *text;
    struct api *api;
    struct server *server;
    int forwarded;
};
/* options and keepalive_ms may be zero. */
void rig_open(struct rig *r, struct server_options options, int keepalive_ms);
/* Gives the model another vocabulary, which it takes over. */
void rig_speak(struct rig *r, struct vocab *vocab);
void rig_close(struct rig *r);

struct client {
    struct rig *rig;
    evutil_socket_t fd;
    struct buffer in;
    bool closed; /* by the server */
};
void client_open(struct client *c, struct rig *r);
void client_close(struct client *c);
void client_send(struct client *c, const char *text);
/* A request with a JSON body. */
void client_post(struct client *c, const char *path, const char *body);
/* Runs the loop until the text has come or the server closed; NULL: until it closed. False after
 * ten seconds. */
bool client_wait(struct client *c, const char *text);
/* Waits for one whole answer with Content-Length or chunks; returns its status, and its body in
 * *body (to be freed). The input then begins after it. */
int client_answer(struct client *c, char **body);
/* Runs the loop until active requests of the engine are `n`. */
bool rig_wait_active(struct rig *r, int n);

#endif
