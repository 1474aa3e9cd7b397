/* shoal status: devices, models and links of the cluster, as the endpoint tells. */
#include "cli/commands.h"
#include "base/display.h"
#include "cli/client.h"
#include "cli/options.h"
#include "cli/print.h"

#include <jansson.h>
#include <stdio.h>

#define MAX_STATUS ((size_t)16 << 20)
#define MAX_NAME ((size_t)4096)
/* "device" */
#define NAME_COLUMNS 6
#define MIB 1048576.0
#define SIZE_COLUMNS 8

static const char *text(const json_t *o, const char *key)
{
    const char *t = json_string_value(json_object_get(o, key));
    return t ? t : "";
}

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static bool flag(const json_t *o, const char *key)
{
    return json_is_true(json_object_get(o, key));
}

/* "name (head) *", into a buffer that is empty. */
static void put_name(struct buffer *name, const json_t *d)
{
    buffer_printf(name, "%s%s%s", text(d, "name"), flag(d, "head") ? " (head)" : "",
                  flag(d, "self") ? " *" : "");
}

/* Columns that the longest name takes. */
static int name_width(const json_t *devices)
{
    size_t i, width = NAME_COLUMNS;
    json_t *d;
    json_array_foreach(devices, i, d)
    {
        struct buffer name;
        buffer_init(&name, MAX_NAME);
        put_name(&name, d);
        size_t own = display_width(buffer_bytes(&name));
        width = own > width ? own : width;
        buffer_done(&name);
    }
    return (int)width;
}

/* "92.1 MiB", "1023 MiB": three or four digits, so that a line fits 80 columns. */
static void print_size(double bytes)
{
    static const char *const units[] = { "MiB", "GiB", "TiB" };
    double value = bytes / MIB;
    size_t unit = 0;
    char size[32];
    while (value >= 1023.5 && unit + 1 < ARRAY_LEN(units)) {
        value /= 1024;
        unit++;
    }
    int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    snprintf(size, sizeof size, "%.*f %s", decimals, value, units[unit]);
    print_out(" %*s", SIZE_COLUMNS, size);
}

static void print_devices(const json_t *devices)
{
    int width = name_width(devices);
    size_t i;
    json_t *d;
    print_styled(PRINT_OUT, PRINT_BOLD, "%-*s %-8s %-5s %-7s %*s %*s %*s %s\n", width, "device",
                 "id", "state", "isa", SIZE_COLUMNS, "weights", SIZE_COLUMNS, "KV cache",
                 SIZE_COLUMNS, "usable", "address");
    json_array_foreach(devices, i, d)
    {
        struct buffer name;
        bool alive = flag(d, "alive");
        buffer_init(&name, MAX_NAME);
        put_name(&name, d);
        print_out("%-*s %-8.8s ", width, buffer_cstr(&name), text(d, "id"));
        print_styled(PRINT_OUT, alive ? PRINT_GOOD : PRINT_BAD, "%-5s", alive ? "alive" : "lost");
        print_out(" %-7s", text(d, "isa"));
        print_size(number(d, "weight_bytes"));
        print_size(number(d, "state_bytes"));
        print_size(number(d, "usable_bytes"));
        print_out(" %s\n", text(d, "address"));
        buffer_done(&name);
    }
}

/* "name (share 1, over shm)": the transports of all its channels. */
static void print_rank(const json_t *rank)
{
    const json_t *transports = json_object_get(rank, "transports");
    size_t i;
    json_t *t;
    print_out(" %s (share %.0f", text(rank, "name"), number(rank, "share"));
    json_array_foreach(transports, i, t)
        print_out("%s%s", i ? " + " : ", over ", json_string_value(t) ? json_string_value(t) : "?");
    print_out(")");
}

/* Nothing as long as nothing was measured. */
static void print_rate(const char *phase, double tokens_per_second)
{
    if (tokens_per_second > 0)
        print_out(", %s %.1f tokens/s", phase, tokens_per_second);
}

static void print_models(const json_t *models)
{
    size_t i, s, k;
    json_t *m, *stage, *rank;
    json_array_foreach(models, i, m)
    {
        print_out("\nmodel %s: %s", text(m, "id"), text(m, "state"));
        if (text(m, "why")[0])
            print_out(" (%s)", text(m, "why"));
        print_out(", context %.0f, split %s\n", number(m, "context"), text(m, "split"));
        json_array_foreach(json_object_get(m, "stages"), s, stage)
        {
            print_out("  layers %.0f to %.0f:", number(stage, "first_layer"),
                      number(stage, "end_layer") - 1);
            json_array_foreach(json_object_get(stage, "ranks"), k, rank) print_rank(rank);
            print_out("\n");
        }
        print_out("  running %.0f, waiting %.0f, done %.0f", number(m, "active"),
                  number(m, "queued"), number(m, "requests"));
        print_rate("decode", number(m, "decode_tokens_per_second"));
        print_rate("prefill", number(m, "prefill_tokens_per_second"));
        print_out("\n");
    }
    if (!json_array_size(models))
        print_out("\nno model is placed: start with shoal up --model NAME\n");
}

int cmd_status(int argc, char **argv)
{
    const char *given = NULL;
    char url[CLIENT_URL_TEXT];
    bool json = false;
    const struct option_row rows[] = {
        OPTION_FLAG("json", &json, "print the endpoint's JSON as it is"),
        OPTION_TEXT("url", &given, "URL", CLIENT_URL_HELP),
    };
    const struct option_set set = { "status", rows, ARRAY_LEN(rows) };
    struct error e = { 0 };
    struct buffer body;
    int status = EXIT_OK;
    if (!options_start(&set, argc, argv, &status))
        return status;
    if (client_url(given, url, &e)) {
        print_failure("status", &e);
        return EXIT_USAGE;
    }
    buffer_init(&body, MAX_STATUS);
    int r = client_fetch(url, "/api/status", &body, &e);
    json_t *all = r ? NULL : json_loadb(buffer_cstr(&body), body.size, 0, NULL);
    if (!r && !json_is_object(all))
        r = fail(&e, FAIL_FORMAT, "%s/api/status does not answer as shoal does", url);
    if (r) {
        print_failure("status", &e);
    } else if (json) {
        print_json_text(buffer_bytes(&body));
    } else {
        print_devices(json_object_get(all, "devices"));
        print_models(json_object_get(all, "models"));
    }
    json_decref(all);
    buffer_done(&body);
    return r ? EXIT_FAILED : EXIT_OK;
}
