/* Where this user's device keeps its keys and its models. */
#ifndef SHOAL_CLI_FOLDERS_H
#define SHOAL_CLI_FOLDERS_H

#include "base/error.h"

#define FOLDER_TEXT 1024

/* Caller's struct. */
struct folders {
    char home[FOLDER_TEXT];   /* keys, invitations */
    char models[FOLDER_TEXT]; /* GGUF files */
};

/* --home and --models as given (NULL: not given). Without: $XDG_DATA_HOME/shoal, else
 * ~/.local/share/shoal; and "models" in there. Nothing is made. FAIL_ARG when there is no home to
 * tell by or a name is too long; *ret untouched then. Source: XDG Base Directory Specification. */
int folders_find(const char *home, const char *models, struct folders *ret, struct error *e);

/* The file of what was said in chats: "shoal/chat_history" in $XDG_STATE_HOME, else in
 * ~/.local/state. Nothing is made. Errors as above. */
int folders_find_history(char ret[static FOLDER_TEXT], struct error *e);

#endif
