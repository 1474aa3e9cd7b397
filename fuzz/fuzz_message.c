/* Control frames: their length, JSON and data frames, orders to load, tickets; headers of data
 * messages. The first byte chooses. */
#include "fuzz/fuzz.h"

#include "peer/data.h"
#include "peer/message.h"
#include "cluster/part.h"
#include "plan/split.h"
#include "stage/wire.h"

#include <string.h>

static void fuzz_frame(struct bytes frame)
{
    struct message m;
    struct error e = { 0 };
    if (message_parse(frame, &m, &e) != 0) {
        return;
    }
    if (m.body != NULL) {
        static struct part_order order;
        struct part_report report;
        if (part_order_parse(m.body, &order, &e) == 0) {
            static struct wire_link links[WIRE_MAX_LINKS];
            wire_links(&order.plan, links);
            json_decref(part_order_json(&order));
        }
        if (part_take_report(m.body, &report, &e) == 0) {
            json_decref(part_transports(report.transports));
        }
        struct ticket_request request = { .index = 0 };
        struct ticket_answer answer = { .index = 0 };
        if (message_read(m.body, ticket_request_fields, TICKET_REQUEST_FIELDS, &request, &e) == 0) {
            json_decref(ticket_request_json(&request));
        }
        if (message_read(m.body, ticket_answer_fields, TICKET_ANSWER_FIELDS, &answer, &e) == 0) {
            json_decref(ticket_answer_json(&answer));
        }
    }
    message_done(&m);
}

static void fuzz_split(struct bytes text)
{
    char spec[64];
    struct placement_plan plan;
    size_t n = text.size < sizeof spec - 1 ? text.size : sizeof spec - 1;
    memcpy(spec, text.data, n);
    spec[n] = '\0';
    split_parse(spec, 24, &plan, NULL);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return;
    }
    struct bytes rest = bytes_of(data + 1, size - 1);
    struct wire_header h;
    size_t n;
    switch (data[0] % 4) {
    case 0:
        wire_decode(rest, &h, NULL);
        break;
    case 1:
        fuzz_split(rest);
        break;
    case 2:
        if (rest.size >= MESSAGE_HEAD) {
            message_size(rest.data, &n, NULL);
        }
        break;
    default:
        fuzz_frame(rest);
        break;
    }
}
