/* A small made-up model in whole numbers, and a backend for it: sums are exact, so every split must
 * give the same bits as one device. */
#ifndef SHOAL_TESTS_CLUSTER_FAKE_H
#define SHOAL_TESTS_CLUSTER_FAKE_H

#include "backend/backend.h"

#define FAKE_LAYERS 6
#define FAKE_WIDTH 8
#define FAKE_FFN 12
#define FAKE_VOCAB 37
/* A token whose step fails in the rank that holds layer FAKE_BAD_LAYER. */
#define FAKE_BAD_TOKEN 36
#define FAKE_BAD_LAYER 3

/* The model's program, in arena memory. */
struct program *fake_program(struct arena *arena);
extern const struct backend fake_backend;
extern const struct weight_source fake_source;

#endif
