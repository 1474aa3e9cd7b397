/* Numbers of bytes for people. */
#ifndef SHOAL_BASE_SIZE_TEXT_H
#define SHOAL_BASE_SIZE_TEXT_H

#include <stdint.h>

#define SIZE_TEXT 32

/* "1.2 GB": of files and downloads, as disks are sold. Returns ret. */
const char *size_text(uint64_t bytes, char ret[static SIZE_TEXT]);
/* "1.23 GiB": of memory. Returns ret. */
const char *size_text_binary(uint64_t bytes, char ret[static SIZE_TEXT]);

#endif
