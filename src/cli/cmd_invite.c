/* shoal invite: a text that lets one device join this device's cluster once.
 *
 * It is written to HOME/invitations, which a running device reads when somebody comes with it: no
 * connection to that device is needed, and nothing but the file's owner can make one. Where no
 * device runs nobody could come with it, so none is made. */
#include "cli/commands.h"

#include <stdio.h>
#include <string.h>

#include "cli/folders.h"
#include "cli/options.h"
#include "cli/print.h"
#include "node/running.h"
#include "os/clock.h"
#include "peer/address.h"
#include "secure/invitation.h"

#define DEFAULT_HOURS 24

/* "nas" becomes "nas:PORT" where the port is not the usual one; the rest is checked. */
static int take_address(char ret[static INVITATION_ADDRESS_TEXT], const char *text, int port,
                        struct error *e)
{
    char host[ADDRESS_TEXT];
    int code = address_parse(text, port, host, &port, e);
    if (code == 0) {
        address_join(host, port, ret);
    }
    return code;
}

static int invite(const char *home, int64_t hours, const struct option_list *addresses,
                  struct error *e)
{
    struct invitation i, with = { .n_addresses = addresses->n };
    struct running device;
    char text[INVITATION_TEXT];
    if (addresses->n > INVITATION_ADDRESSES) {
        return fail(e, FAIL_ARG, "more than %d addresses", INVITATION_ADDRESSES);
    }
    int code = running_find(home, &device, e);
    for (int k = 0; k < addresses->n && code == 0; k++) {
        code = take_address(with.addresses[k], addresses->values[k], device.peer_port, e);
    }
    code = code ? code : invitation_create(&i, home, clock_wall_s(), (int)hours, e);
    if (code != 0) {
        return code;
    }
    i.n_addresses = with.n_addresses;
    memcpy(i.addresses, with.addresses, sizeof i.addresses);
    invitation_name_head(&i, home);
    invitation_format(text, &i);
    print_out("%s\n", text);
    print_err("for one device, within %d hours; there, with the text above pasted:\n", (int)hours);
    if (addresses->n > 0) {
        print_err("shoal up --invite-file -\n");
    } else {
        print_err("shoal up --join THIS-MACHINE:%d --invite-file -\n", device.peer_port);
    }
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
