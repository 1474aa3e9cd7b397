/* Names of answers and requests that nobody guesses. */
#ifndef SHOAL_API_ID_H
#define SHOAL_API_ID_H

/* Bytes of an id with the longest prefix, NUL included. */
#define API_ID_TEXT 48

/* The prefix (below 20 bytes) and 24 random letters and digits. */
void id_make(char ret[static API_ID_TEXT], const char *prefix);

#endif
