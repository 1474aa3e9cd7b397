/* Where this user's device keeps its keys and its models. */
#ifndef SHOAL_CLI_FOLDERS_H
#define SHOAL_CLI_FOLDERS_H

#include "base/error.h"

#include <stdbool.h>

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

/* What MODEL on a command line means, by one rule for all commands: a path, if there is a '/' in it
 * or if it ends in ".gguf" and such a file is here; else a model of the models folder, called as
 * base/model_name.h has it; else a file that is here under another ending. models: --models as
 * given. FAIL_NOT_FOUND; FAIL_STATE for a model that is not all there; folders_find's errors. */
int folders_find_model(const char *model, const char *models, char ret[static FOLDER_TEXT],
                       struct error *e);

/* Whether MODEL can mean nothing but a file of this machine. */
bool folders_is_file(const char *model);

/* The option of every command that takes a MODEL. */
#define OPTION_MODELS(to)                                                                          \
    OPTION_TEXT("models", to, "DIR", "where models are found by name (~/.local/share/shoal/models)")

/* The file of what was said in chats: "shoal/chat_history" in $XDG_STATE_HOME, else in
 * ~/.local/state. Nothing is made. Errors as above. */
int folders_find_history(char ret[static FOLDER_TEXT], struct error *e);

#endif
