/* Editing by libedit: see editor.h. */
#include "os/editor.h"

#include <histedit.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

#include "os/env.h"
#include "os/terminal.h"

/* What a terminal puts around pasted text, and how it is asked to (xterm, "bracketed paste"). */
#define PASTE_ON "\033[?2004h"
#define PASTE_OFF "\033[?2004l"
static const wchar_t paste_end[] = L"\033[201~";

/* Columns to a tab stop, and the most that a character takes ("\\U+10FFFF"). */
#define TAB_COLUMNS 8
#define MAX_COLUMNS 9
/* Rows that a text must leave free: for the prompt before it and the keys that come next. */
#define SPARE_ROWS 2
/* Characters of what stands for a tall text, NUL included: less than any terminal's rows hold. */
#define STAND_IN 64
#define STAND_IN_SHOWN 24 /* of the text */

/* An earlier text that is taller than the screen, and what stands for it there. */
struct tall {
    wchar_t *text, stand_in[STAND_IN];
    struct tall *next;
};

struct editor {
    struct tall *talls;
    int n_talls;
    EditLine *line;
    HistoryW *history;
    FILE *out;
    locale_t locale;      /* UTF-8, whatever the environment says: models speak nothing else */
    struct termios found; /* the terminal's settings before us */
    const wchar_t *prompt;
    bool cancelled, folded, pasting;
};

static struct editor *owner(EditLine *el)
{
    struct editor *ed = NULL;
    el_wget(el, EL_CLIENTDATA, &ed);
    return ed;
}

static wchar_t *show_prompt(EditLine *el)
{
    return (wchar_t *)owner(el)->prompt;
}

/* So that what comes next, an answer or the shell, finds the terminal as we did. */
static void give_terminal_back(struct editor *ed)
{
    el_wset(ed->line, EL_PREP_TERM, 0);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &ed->found);
}

/* --- what fits on the screen --- */

/* libedit 3.1 loses its place in a text that is taller than the screen and then writes out of
 * bounds. So it never gets to edit one. */
static bool fits(const wchar_t *text, size_t n)
{
    int width, height;
    terminal_size(&width, &height);
    int rows = SPARE_ROWS, column = 0;
    for (size_t i = 0; i < n && rows <= height; i++) {
        int w = text[i] == L'\t' ? TAB_COLUMNS : wcwidth(text[i]);
        w = w < 0 ? MAX_COLUMNS : w;
        column += w;
        if (text[i] == L'\n' || column > width) {
            rows++;
            column = text[i] == L'\n' ? 0 : w;
        }
    }
    return rows <= height;
}

/* One line that tells which text it stands for: "[1: 17391 characters: word0 word1 ...]". NULL
 * without memory. */
static const wchar_t *stand_in(struct editor *ed, const wchar_t *text)
{
    for (struct tall *t = ed->talls; t; t = t->next)
        if (wcscmp(t->text, text) == 0)
            return t->stand_in;
    struct tall *t = calloc(1, sizeof *t);
    if (!t || !(t->text = wcsdup(text))) {
        free(t);
        return NULL;
    }
    wchar_t begin[STAND_IN_SHOWN + 1] = { 0 };
    for (size_t i = 0; i < STAND_IN_SHOWN && text[i]; i++)
        begin[i] = wcwidth(text[i]) == 1 ? text[i] : L' ';
    swprintf(t->stand_in, STAND_IN, L"[%d: %zu characters: %ls...]", ++ed->n_talls, wcslen(text),
             begin);
    t->next = ed->talls;
    ed->talls = t;
    return t->stand_in;
}

/* The tall text that is meant at the beginning of `at`, or NULL. */
static const struct tall *find_tall(const struct editor *ed, const wchar_t *at)
{
    for (const struct tall *t = ed->talls; t; t = t->next)
        if (wcsncmp(at, t->stand_in, wcslen(t->stand_in)) == 0)
            return t;
    return NULL;
}

/* libedit's way to the earlier texts. Those that don't fit come as what stands for them, and as
 * themselves when the line is read. */
static int find_earlier(void *editor, HistEventW *event, int step, ...)
{
    va_list arguments;
    va_start(arguments, step);
    const void *argument = va_arg(arguments, const void *);
    va_end(arguments);
    struct editor *ed = editor;
    int r = history_w(ed->history, event, step, argument);
    bool is_text =
        step == H_FIRST || step == H_LAST || step == H_NEXT || step == H_PREV || step == H_CURR;
    if (r >= 0 && is_text && !fits(event->str, wcslen(event->str))) {
        const wchar_t *other = stand_in(ed, event->str);
        event->str = other ? other : L"";
    }
    return r;
}

/* The next key, by read(2) and not stdio. A text that has become too tall ends here, as by Enter,
 * and goes on with the next one. */
static int read_key(EditLine *el, wchar_t *ret)
{
    struct editor *ed = owner(el);
    const LineInfoW *line = el_wline(el);
    char bytes[MB_LEN_MAX];
    size_t n = 0, used = (size_t)-2;
    if (!ed->pasting && !fits(line->buffer, (size_t)(line->lastchar - line->buffer))) {
        ed->folded = true;
        *ret = L'\n';
        return 1;
    }
    while (used == (size_t)-2 || used == (size_t)-1) {
        int got = terminal_read_byte(&bytes[n]);
        if (got <= 0)
            return got;
        mbstate_t state = { 0 };
        used = mbrtowc(ret, bytes, ++n, &state);
        if (used == (size_t)-1 || n == sizeof bytes) {
            /* No character; but its last byte may begin one. */
            bytes[0] = bytes[n - 1];
            n = n > 1;
        }
    }
    el_resize(el);
    return 1;
}

/* --- keys of our own --- */

/* Ctrl-C. A key and no signal, so that it comes in its place among the others. The text stays on
 * the screen, as in a shell; the pushed key then ends the line. */
static unsigned char on_cancel(EditLine *el, wint_t key)
{
    (void)key;
    const LineInfoW *line = el_wline(el);
    el_cursor(el, (int)(line->lastchar - line->cursor));
    el_winsertstr(el, L"^C");
    owner(el)->cancelled = true;
    el_wpush(el, L"\n");
    return CC_REFRESH;
}

/* Ctrl-Z: comes back when the shell goes on with us. */
static unsigned char on_suspend(EditLine *el, wint_t key)
{
    (void)key;
    give_terminal_back(owner(el));
    raise(SIGTSTP);
    el_wset(el, EL_PREP_TERM, 1);
    el_wset(el, EL_REFRESH);
    return CC_NORM;
}

static void insert(EditLine *el, wchar_t c)
{
    if (c == L'\r')
        c = L'\n';
    if (c >= L' ' || c == L'\n' || c == L'\t')
        el_winsertstr(el, (const wchar_t[]){ c, L'\0' });
}

/* Pasted text, whose line ends don't send it. */
static unsigned char on_paste(EditLine *el, wint_t key)
{
    (void)key;
    size_t matched = 0;
    wchar_t c;
    owner(el)->pasting = true;
    while (paste_end[matched] && el_wgetc(el, &c) == 1) {
        if (c == paste_end[matched]) {
            matched++;
            continue;
        }
        /* Only its first character can begin the end mark again. */
        for (size_t i = 0; i < matched; i++)
            insert(el, paste_end[i]);
        matched = c == paste_end[0];
        if (!matched)
            insert(el, c);
    }
    owner(el)->pasting = false;
    return CC_REFRESH;
}

static void bind_keys(EditLine *el)
{
    static const wchar_t *const keys[][2] = {
        { L"^C", L"shoal-cancel" },
        { L"^Z", L"shoal-suspend" },
        { L"\033[200~", L"shoal-paste" },
        { L"^R", L"em-inc-search-prev" },
        { L"^U", L"vi-kill-line-prev" },
        { L"^W", L"ed-delete-prev-word" },
        { L"\033[H", L"ed-move-to-beg" },
        { L"\033[F", L"ed-move-to-end" },
        { L"\033[1~", L"ed-move-to-beg" },
        { L"\033[4~", L"ed-move-to-end" },
        { L"\033[3~", L"ed-delete-next-char" },
        { L"\033[1;5D", L"ed-prev-word" },
        { L"\033[1;5C", L"em-next-word" },
    };
    el_wset(el, EL_ADDFN, L"shoal-cancel", L"Give the text up", on_cancel);
    el_wset(el, EL_ADDFN, L"shoal-suspend", L"Stop the program", on_suspend);
    el_wset(el, EL_ADDFN, L"shoal-paste", L"Take pasted text", on_paste);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        el_wset(el, EL_BIND, keys[i][0], keys[i][1], NULL);
    /* While a line is edited, and between two parts of one text: there the terminal's own lines
     * would drop what is pasted faster than it is read. */
    el_wset(el, EL_SETTY, L"-d", L"-isig", NULL);
    el_wset(el, EL_SETTY, L"-x", L"-isig", L"-icanon", L"-echo", NULL);
}

/* --- life --- */

static locale_t open_locale(void)
{
    static const char *const names[] = { "C.UTF-8", "en_US.UTF-8", "" };
    locale_t found = (locale_t)0;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !found; i++)
        found = newlocale(LC_CTYPE_MASK, names[i], (locale_t)0);
    return found;
}

static int start(struct editor *ed, struct error *e)
{
    HistEventW event;
    ed->locale = open_locale();
    if (!ed->locale)
        return fail(e, FAIL_UNSUPPORTED, "no locale with UTF-8");
    locale_t before = uselocale(ed->locale);
    tcgetattr(STDIN_FILENO, &ed->found);
    ed->line = el_init("shoal", stdin, ed->out, stderr);
    ed->history = history_winit();
    if (ed->line && ed->history) {
        history_w(ed->history, &event, H_SETSIZE, EDITOR_MAX_EARLIER);
        history_w(ed->history, &event, H_SETUNIQUE, 1);
        el_wset(ed->line, EL_CLIENTDATA, ed);
        el_wset(ed->line, EL_PROMPT, show_prompt);
        el_wset(ed->line, EL_HIST, find_earlier, ed);
        el_wset(ed->line, EL_GETCFN, read_key);
        el_wset(ed->line, EL_EDITOR, L"emacs");
        bind_keys(ed->line);
        el_source(ed->line, NULL); /* the person's ~/.editrc; most have none */
        give_terminal_back(ed);
    }
    uselocale(before);
    return ed->line && ed->history ? 0 : fail(e, FAIL_NOMEM, "a line editor");
}

int editor_open(struct editor **ret, struct error *e)
{
    const char *terminal = env_get("TERM", "dumb");
    FILE *out = terminal_on_output() ? stdout : terminal_on_errors() ? stderr : NULL;
    if (!terminal_on_input() || !out || strcmp(terminal, "dumb") == 0)
        return fail(e, FAIL_UNSUPPORTED, "no terminal to edit on");
    struct editor *ed = calloc(1, sizeof *ed);
    if (!ed)
        return fail(e, FAIL_NOMEM, "a line editor");
    ed->out = out;
    int r = start(ed, e);
    if (r)
        editor_close(ed);
    else
        *ret = ed;
    return r;
}

void editor_close(struct editor *ed)
{
    if (!ed)
        return;
    if (ed->line)
        el_end(ed->line);
    if (ed->history)
        history_wend(ed->history);
    if (ed->locale)
        freelocale(ed->locale);
    for (struct tall *t = ed->talls, *next; t; t = next) {
        next = t->next;
        free(t->text);
        free(t);
    }
    free(ed);
}

/* In UTF-8, and with tall texts for what stands for them. */
static int append(const struct editor *ed, struct buffer *line, const wchar_t *text, size_t n)
{
    mbstate_t state = { 0 };
    int r = 0;
    for (size_t i = 0; i < n && !r; i++) {
        const struct tall *tall = text[i] == L'[' && ed ? find_tall(ed, text + i) : NULL;
        if (tall) {
            i += wcslen(tall->stand_in) - 1;
            r = append(NULL, line, tall->text, wcslen(tall->text));
            continue;
        }
        char bytes[MB_LEN_MAX];
        size_t size = wcrtomb(bytes, text[i], &state);
        if (size != (size_t)-1)
            r = buffer_append(line, bytes_of(bytes, size));
    }
    return r;
}

int editor_read(struct editor *ed, const struct editor_prompts *prompts, struct buffer *line,
                struct error *e)
{
    int r = 0;
    buffer_clear(line);
    ed->prompt = prompts->first;
    locale_t before = uselocale(ed->locale);
    fputs(PASTE_ON, ed->out);
    do {
        int n = 0;
        ed->cancelled = ed->folded = false;
        /* Before the prompt and not after it, as libedit would: keys that come at once are keys. */
        el_wset(ed->line, EL_PREP_TERM, 1);
        const wchar_t *text = el_wgets(ed->line, &n);
        if (!text || n <= 0) {
            fputs("\n", ed->out);
            r = fail(e, FAIL_CLOSED, "the input has ended");
        } else if (ed->cancelled) {
            r = fail(e, FAIL_CANCELLED, "given up");
        } else if ((r = append(ed, line, text, (size_t)n - (text[n - 1] == L'\n')))) {
            fail(e, r, "a text of more than %zu bytes", line->limit);
        }
        ed->prompt = prompts->further;
    } while (ed->folded && !r);
    fputs(PASTE_OFF, ed->out);
    fflush(ed->out);
    give_terminal_back(ed);
    uselocale(before);
    return r;
}

void editor_remember(struct editor *ed, const char *text)
{
    HistEventW event;
    size_t n = strlen(text) + 1;
    wchar_t *wide = malloc(n * sizeof *wide);
    locale_t before = uselocale(ed->locale);
    if (wide && mbstowcs(wide, text, n) != (size_t)-1)
        history_w(ed->history, &event, H_ENTER, wide);
    uselocale(before);
    free(wide);
}
