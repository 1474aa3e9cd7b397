/* What the spelling of a token says about its role. Files name few of their special tokens, so
 * the spellings of the model families are listed here, as facts that llama.cpp registers too. */
#include "token/internal.h"

struct spelling {
    enum vocab_role role;
    const char *text;
};

/* The first one that the vocabulary has gives the role, unless the file names a token. */
static const struct spelling roles[] = {
    { VOCAB_EOT, "<|eot_id|>" },
    { VOCAB_EOT, "<|im_end|>" },
    { VOCAB_EOT, "<|end|>" },
    { VOCAB_EOT, "<end_of_turn>" },
    { VOCAB_EOT, "<|endoftext|>" },
    { VOCAB_EOT, "<|end_of_text|>" },
    { VOCAB_EOT, "<EOT>" },
    { VOCAB_EOT, "_<EOT>" },
    { VOCAB_EOT, "▁<EOT>" },
    { VOCAB_EOT, "[EOT]" },
    { VOCAB_EOT, "<｜end▁of▁sentence｜>" },
    { VOCAB_EOT, "<end_of_utterance>" },
    { VOCAB_EOM, "<|eom_id|>" },
    { VOCAB_FIM_PRE, "<|fim_prefix|>" },
    { VOCAB_FIM_PRE, "<fim-prefix>" },
    { VOCAB_FIM_PRE, "<fim_prefix>" },
    { VOCAB_FIM_PRE, "<｜fim▁begin｜>" },
    { VOCAB_FIM_PRE, "<PRE>" },
    { VOCAB_FIM_PRE, "▁<PRE>" },
    { VOCAB_FIM_PRE, "<|code_prefix|>" },
    { VOCAB_FIM_PRE, "<|prefix|>" },
    { VOCAB_FIM_SUF, "<|fim_suffix|>" },
    { VOCAB_FIM_SUF, "<fim-suffix>" },
    { VOCAB_FIM_SUF, "<fim_suffix>" },
    { VOCAB_FIM_SUF, "<｜fim▁hole｜>" },
    { VOCAB_FIM_SUF, "<SUF>" },
    { VOCAB_FIM_SUF, "▁<SUF>" },
    { VOCAB_FIM_SUF, "<|code_suffix|>" },
    { VOCAB_FIM_SUF, "<|suffix|>" },
    { VOCAB_FIM_MID, "<|fim_middle|>" },
    { VOCAB_FIM_MID, "<fim-middle>" },
    { VOCAB_FIM_MID, "<fim_middle>" },
    { VOCAB_FIM_MID, "<｜fim▁end｜>" },
    { VOCAB_FIM_MID, "<MID>" },
    { VOCAB_FIM_MID, "▁<MID>" },
    { VOCAB_FIM_MID, "<|code_middle|>" },
    { VOCAB_FIM_MID, "<|middle|>" },
    { VOCAB_FIM_PAD, "<|fim_pad|>" },
    { VOCAB_FIM_PAD, "<fim-pad>" },
    { VOCAB_FIM_PAD, "<fim_pad>" },
    { VOCAB_FIM_PAD, "<PAD>" },
    { VOCAB_FIM_PAD, "[PAD]" },
    { VOCAB_FIM_REP, "<|fim_repo|>" },
    { VOCAB_FIM_REP, "<|repo_name|>" },
    { VOCAB_FIM_REP, "<fim-repo>" },
    { VOCAB_FIM_REP, "<REPO>" },
    { VOCAB_FIM_REP, "<reponame>" },
    { VOCAB_FIM_SEP, "<|file_sep|>" },
};

/* Every token spelt so ends a generation, whatever its type in the file, unless it is doubtful. */
static const char *const ends[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "▁<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
};

/* Spellings that text has for other reasons: HTML's strike-through, a tag of one's own, a word in
 * brackets. Vocabularies hold them as plain pieces (Qwen's </s>) or as user-defined ones (Gemma's
 * HTML), so they mean what the lists above say only where the file calls them control tokens. */
static const char *const doubtful[] = {
    "</s>",   "<eos>", "[EOS]",  "<EOT>", "_<EOT>", "▁<EOT>", "[EOT]", "[e~[",   "<PRE>",
    "▁<PRE>", "<SUF>", "▁<SUF>", "<MID>", "▁<MID>", "<PAD>",  "[PAD]", "<REPO>", "<reponame>",
};

/* Markers inside a message (gpt-oss): control tokens that are shown, since the form of the answer
 * is read from them. */
static const char *const markers[] = { "<|channel|>", "<|message|>", "<|start|>", "<|constrain|>" };

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static int32_t find(const struct vocab *v, const char *text)
{
    return map_get(&v->ids, bytes_text(text), -1);
}

/* The token that is spelt so and means what the lists say of it, or -1. */
static int32_t find_meant(const struct vocab *v, const char *text)
{
    int32_t id = find(v, text);
    for (size_t i = 0; id >= 0 && i < COUNT(doubtful); i++)
        if (strcmp(text, doubtful[i]) == 0 && v->type[id] != VOCAB_TOKEN_CONTROL)
            return -1;
    return id;
}

static void show(struct vocab *v, int32_t id)
{
    if (id >= 0) {
        v->eog[id] = 0;
        v->type[id] = VOCAB_TOKEN_CONTROL;
        v->shown[id] = 1;
    }
}

static bool has(const struct vocab *v, const char *text)
{
    return find(v, text) >= 0;
}

static void assign_eog(struct vocab *v)
{
    static const enum vocab_role ending[] = { VOCAB_FIM_PAD, VOCAB_FIM_REP, VOCAB_FIM_SEP,
                                              VOCAB_EOS,     VOCAB_EOT,     VOCAB_EOM };
    for (size_t i = 0; i < COUNT(ends); i++) {
        int32_t id = find_meant(v, ends[i]);
        if (id >= 0) {
            v->eog[id] = 1;
            v->type[id] = VOCAB_TOKEN_CONTROL;
        }
    }
    for (size_t i = 0; i < COUNT(markers); i++)
        show(v, find(v, markers[i]));
    /* These two have an </s> that is HTML's, called a control token by some files. */
    int32_t html = has(v, "<|tool_response>") || has(v, "<|plamo:eos|>") ? find(v, "</s>") : -1;
    if (html >= 0) {
        v->eog[html] = 0;
        v->type[html] = VOCAB_TOKEN_NORMAL;
    }
    for (size_t i = 0; i < COUNT(ending); i++)
        if (v->role[ending[i]] >= 0)
            v->eog[v->role[ending[i]]] = 1;
    /* Where a turn ends with <|return|> or <|call|> (gpt-oss), or <|flush|> or <|calls|> (solar),
     * <|end|> only ends a message and more follows. */
    if ((has(v, "<|return|>") && (has(v, "<|call|>") || has(v, "<|calls|>"))) ||
        (has(v, "<|flush|>") && (has(v, "<|call|>") || has(v, "<|calls|>"))))
        show(v, find(v, "<|end|>"));
}

static bool contains_folded(struct bytes text, const char *lower)
{
    size_t n = strlen(lower);
    for (size_t i = 0; i + n <= text.size; i++) {
        size_t k = 0;
        while (k < n && (text.data[i + k] |
                         ((text.data[i + k] >= 'A' && text.data[i + k] <= 'Z') ? 0x20 : 0)) ==
                            (uint8_t)lower[k])
            k++;
        if (k == n)
            return true;
    }
    return false;
}

/* Phi-3's special tokens, but for three, swallow the white space behind them; the file does not
 * say so, only its name does. */
static void assign_strip(struct vocab *v, struct bytes name)
{
    static const char *const keep[] = { "<unk>", "<s>", "<|endoftext|>" };
    int32_t mask = v->role[VOCAB_MASK];
    if (contains_folded(name, "phi-3") || contains_folded(name, "phi3")) {
        for (int32_t i = 0; i < v->n; i++)
            if (v->type[i] == VOCAB_TOKEN_CONTROL || v->type[i] == VOCAB_TOKEN_UNKNOWN ||
                v->type[i] == VOCAB_TOKEN_USER_DEFINED)
                v->strip[i] = STRIP_RIGHT;
        for (size_t i = 0; i < COUNT(keep); i++)
            if (find(v, keep[i]) >= 0)
                v->strip[find(v, keep[i])] = 0;
    } else if (contains_folded(name, "modern-bert") && mask >= 0) {
        v->strip[mask] = STRIP_LEFT;
    }
}

void special_assign(struct vocab *v, struct bytes model_name)
{
    for (size_t i = 0; i < COUNT(roles); i++) {
        int32_t id = find_meant(v, roles[i].text);
        if (id >= 0 && v->role[roles[i].role] < 0) {
            v->role[roles[i].role] = id;
            v->type[id] = VOCAB_TOKEN_CONTROL;
        }
    }
    assign_eog(v);
    assign_strip(v, model_name);
}
