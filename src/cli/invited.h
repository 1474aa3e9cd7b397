/* The invitation that `shoal up` is given; for this folder only. */
#ifndef SHOAL_CLI_INVITED_H
#define SHOAL_CLI_INVITED_H

#include "base/error.h"
#include "secure/invitation.h"

/* Takes the invitation of --invite TEXT (text, from argv; NULL: not given) or --invite-file FILE
 * ("-": standard input) into ret, "" where neither is given. What stood in argv is overwritten, so
 * that `ps` shows it no longer than this start takes. FAIL_ARG, file_read_typed's errors. */
int invited_take(char ret[static INVITATION_TEXT], char *text, const char *file, struct error *e);

/* Whether this home may take another cluster's key. One that heads a cluster of its own is asked
 * for, unless `replace`; where nobody can answer, or the answer is no: FAIL_STATE. */
int invited_agree(const char *home, bool replace, struct error *e);

#endif
