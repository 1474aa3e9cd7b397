/* Events of a service that wait for their turn. */
#include "cluster/service_internal.h"

#include <stdlib.h>

#include "os/log.h"
#include "stage/source.h"

#include <stdio.h>

void service_post(struct service *s, const struct service_event *event)
{
    struct queued_event *q = calloc(1, sizeof *q);
    if (q == NULL) {
        log_error("cluster", "%s: out of memory for an event", s->file.id);
        return;
    }
    q->event = *event;
    const char **text =
        event->kind == SERVICE_PLACEMENT ? &q->event.placement.text : &q->event.text;
    if (*text != NULL) {
        snprintf(q->text, sizeof q->text, "%s", *text);
        *text = q->text;
    }
    *s->last_event = q;
    s->last_event = &q->next;
}

void service_post_placement(struct service *s, const struct placement_event *event)
{
    service_post(s, &(struct service_event){ .kind = SERVICE_PLACEMENT, .placement = *event });
}

struct queued_event *service_next(struct service *s)
{
    struct queued_event *q = s->first;
    if (q != NULL) {
        s->first = q->next;
        if (s->first == NULL) {
            s->last_event = &s->first;
        }
    }
    return q;
}

/* --- what both the events and their doing look up --- */

struct attempt *service_attempt(struct service *s, uint32_t epoch)
{
    for (int i = 0; i < SERVICE_PLACEMENTS; i++) {
        if (s->attempts[i].epoch == epoch) {
            return &s->attempts[i];
        }
    }
    return NULL;
}

const struct program *service_program(const struct service *s)
{
    return source_program(s->source);
}
