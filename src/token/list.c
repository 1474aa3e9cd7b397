/* Lists of token ids: see vocab.h. */
#include "token/vocab.h"

#include <stdlib.h>

#include "base/array.h"

void token_list_init(struct token_list *l, size_t limit)
{
    *l = (struct token_list){ .limit = limit };
}

void token_list_done(struct token_list *l)
{
    free(l->ids);
    *l = (struct token_list){ .limit = l->limit };
}

int token_list_add(struct token_list *l, int32_t id, struct error *e)
{
    if (l->count >= l->limit)
        return fail(e, FAIL_LIMIT, "more than %zu tokens", l->limit);
    int32_t *grown = array_grow(l->ids, &l->capacity, l->count + 1, sizeof(*grown), l->limit);
    if (!grown)
        return fail(e, FAIL_NOMEM, "%zu tokens", l->count + 1);
    l->ids = grown;
    l->ids[l->count++] = id;
    return 0;
}
