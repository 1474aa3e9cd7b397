/* Invitation texts: whatever is accepted is written back as the same text. */
#include "fuzz/fuzz.h"

#include <assert.h>

#include "secure/invitation.h"

void fuzz_one(const uint8_t *data, size_t size)
{
    struct error e = { 0 };
    struct invitation i;
    if (invitation_parse(&i, bytes_of(data, size), &e) != 0) {
        assert(e.text[0] != '\0');
        return;
    }
    char text[INVITATION_TEXT];
    invitation_format(text, &i);
    size_t n = strlen(text);
    assert(n <= size && memcmp(text, data, n) == 0);
}
