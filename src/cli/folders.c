/* Folders of this user: see folders.h. */
#include "cli/folders.h"

#include <stdio.h>
#include <string.h>

#include "base/model_name.h"
#include "os/env.h"
#include "os/file.h"
#include "store/shelf.h"

int folders_find(const char *home, const char *models, struct folders *ret, struct error *e)
{
    const char *data = env_get("XDG_DATA_HOME", ""), *user = env_get("HOME", "");
    struct folders f;
    int n = 0;
    if (home != NULL) {
        n = snprintf(f.home, sizeof f.home, "%s", home);
    } else if (data[0] != '\0') {
        n = snprintf(f.home, sizeof f.home, "%s/shoal", data);
    } else if (user[0] != '\0') {
        n = snprintf(f.home, sizeof f.home, "%s/.local/share/shoal", user);
    } else if (models == NULL) {
        return fail(e, FAIL_ARG, "neither HOME nor XDG_DATA_HOME is set: name the folder");
    } else {
        f.home[0] = '\0';
    }
    int m = models != NULL ? snprintf(f.models, sizeof f.models, "%s", models)
                           : snprintf(f.models, sizeof f.models, "%.1000s/models", f.home);
    if (n < 0 || m < 0 || n >= FOLDER_TEXT || m >= FOLDER_TEXT) {
        return fail(e, FAIL_ARG, "a folder's name has more than %d bytes", FOLDER_TEXT - 1);
    }
    *ret = f;
    return 0;
}

bool folders_is_file(const char *model)
{
    return model_name_is_path(model) ||
           (model_name_parse(bytes_text(model)).is_file && file_exists(model));
}

static int take_path(const char *path, char ret[static FOLDER_TEXT], struct error *e)
{
    if (strlen(path) >= FOLDER_TEXT)
        return fail(e, FAIL_ARG, "a path of more than %d bytes", FOLDER_TEXT - 1);
    memcpy(ret, path, strlen(path) + 1);
    return 0;
}

int folders_find_model(const char *model, const char *models, char ret[static FOLDER_TEXT],
                       struct error *e)
{
    struct folders f;
    struct shelf_model found;
    if (folders_is_file(model))
        return take_path(model, ret, e);
    int code = folders_find(NULL, models, &f, e);
    code = code ? code : shelf_find(f.models, model, &found, e);
    if (code == FAIL_NOT_FOUND && file_exists(model))
        return take_path(model, ret, e);
    if (code == FAIL_NOT_FOUND)
        return fail(e, code,
                    "no model \"%s\" in %s, and no such file; shoal list names what is there",
                    model, f.models);
    if (code == 0 && !shelf_is_whole(&found))
        return fail(e, FAIL_STATE,
                    "\"%s\" is not all here (%d of %d files): shoal pull fetches the rest", model,
                    found.files, found.parts);
    return code ? code : take_path(found.path, ret, e);
}

int folders_find_history(char ret[static FOLDER_TEXT], struct error *e)
{
    const char *state = env_get("XDG_STATE_HOME", ""), *user = env_get("HOME", "");
    char path[FOLDER_TEXT];
    if (state[0] == '\0' && user[0] == '\0')
        return fail(e, FAIL_ARG, "neither HOME nor XDG_STATE_HOME is set");
    int n = state[0] != '\0'
                ? snprintf(path, sizeof path, "%s/shoal/chat_history", state)
                : snprintf(path, sizeof path, "%s/.local/state/shoal/chat_history", user);
    if (n < 0 || n >= FOLDER_TEXT)
        return fail(e, FAIL_ARG, "a folder's name has more than %d bytes", FOLDER_TEXT - 1);
    memcpy(ret, path, (size_t)n + 1);
    return 0;
}
