/* shoal invite: a text that lets one device join this device's cluster once.
 *
 * It is written to HOME/invitations, which a running device reads when somebody comes with it: no
 * connection to that device is needed, and nothing but the file's owner can make one. */
#include "cli/commands.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli/folders.h"
#include "cli/options.h"
#include "cli/print.h"
#include "os/clock.h"
#include "secure/invitation.h"

#define DEFAULT_HOURS 24

static int invite(const char *home, int64_t hours, const struct option_list *addresses,
                  struct error *e)
{
    struct invitation i;
    char text[INVITATION_TEXT];
    if (addresses->n > INVITATION_ADDRESSES) {
        return fail(e, FAIL_ARG, "more than %d addresses", INVITATION_ADDRESSES);
    }
    for (int k = 0; k < addresses->n; k++) {
        if (strlen(addresses->values[k]) >= INVITATION_ADDRESS_TEXT) {
            return fail(e, FAIL_ARG, "an address of more than %d bytes",
                        INVITATION_ADDRESS_TEXT - 1);
        }
    }
    int code = invitation_create(&i, home, clock_wall_s(), (int)hours, e);
    if (code != 0) {
        return code;
    }
    i.n_addresses = addresses->n;
    for (int k = 0; k < addresses->n; k++) {
        snprintf(i.addresses[k], INVITATION_ADDRESS_TEXT, "%s", addresses->values[k]);
    }
    invitation_format(text, &i);
    print_out("%s\n", text);
    print_err("for one device, within %d hours: shoal up %s--invite-file -\n", (int)hours,
              addresses->n > 0 ? "" : "--join THIS-MACHINE ");
    return 0;
}

int cmd_invite(int argc, char **argv)
{
    const char *home = NULL;
    int64_t hours = DEFAULT_HOURS;
    struct option_list addresses = { 0 };
    const struct option_row rows[] = {
        OPTION_TEXT("home", &home, "DIR", "of the inviting device (~/.local/share/shoal)"),
        OPTION_INT("hours", &hours, 1, INVITATION_MAX_HOURS, "N", "until it expires (24)"),
        OPTION_LIST("address", &addresses, "ADDRESS", "where to join, put into the invitation"),
    };
    const struct option_set set = { "invite", rows, sizeof rows / sizeof rows[0] };
    int code = EXIT_OK;
    if (!options_start(&set, argc, argv, &code)) {
        return code;
    }
    struct folders folders;
    struct error e = { 0 };
    if (folders_find(home, NULL, &folders, &e) != 0) {
        print_failure("invite", &e);
        return EXIT_USAGE;
    }
    if (invite(folders.home, hours, &addresses, &e) != 0) {
        print_failure("invite", &e);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}
