/* The program of a model, whole or as the ranks of a split see it. */
#include "cli/inspect_program.h"
#include "cli/print.h"

#include "model/model.h"
#include "plan/split.h"
#include "stage/rank.h"
#include "stage/share.h"

#include <stdio.h>

#define MAX_PROGRAM_TEXT ((size_t)64 << 20)

static int print_part(const struct program *p, struct error *e)
{
    struct buffer text;
    buffer_init(&text, MAX_PROGRAM_TEXT);
    int r = program_validate(p, e);
    if (!r && program_print(p, &text))
        r = fail(e, FAIL_LIMIT, "the program's text is larger than %zu bytes", MAX_PROGRAM_TEXT);
    if (!r)
        print_text(buffer_bytes(&text));
    buffer_done(&text);
    return r;
}

int inspect_program(const struct gguf *g, const char *split, struct error *e)
{
    struct arena arena = { 0 };
    struct program *whole, *part;
    struct placement_plan plan;
    int r = model_build(g, NULL, &arena, &whole, e);
    if (!r && !split)
        r = print_part(whole, e);
    if (!r && split)
        r = split_parse(split, whole->n_layers, &plan, e);
    for (int i = 0; !r && split && i < plan.n_ranks; i++) {
        if (!(r = rank_program(whole, &plan, i, &arena, &part, e))) {
            print_out("%srank %d of the placement %s\n", i ? "\n" : "", i, split);
            r = print_part(part, e);
        }
    }
    arena_done(&arena);
    return r;
}
