/* fuzz_step.c : the vector of a step's exchange, as another rank sends it: a byte of options, one with the number of runs, two for each run (its kind;
 * its values, in groups where it is of groups), then the message. Bit 0: zeros are left out. Bit 1: the message is of a lower rank. Bit 2: it takes
 * the place of what is there, as a result does. Bit 3: it is patches of the message that this rank itself would send: 2 bytes where, one with the
 * byte, so that what is damaged has the length of a vector.
 * A message of another length than the vector is told by words that differ. Whatever values it says, who sends them on and who takes that have the
 * same ones, bit by bit. max_len=512 */
#include "compressors/sums/step_sums.h"
#include "fuzz.h"

enum { STEP_RUNS = 10, STEP_VALUES = 24, STEP_ALL = STEP_RUNS * STEP_VALUES, STEP_SEED = 7 };

typedef struct step_vector {
    double          values[STEP_ALL];
    float           floats[STEP_ALL];
    taut__step_sums sums;
} step_vector;

static size_t step_runs(taut__run *run, size_t runs, const uint8_t *data)
{
    for (size_t i = 0; i < runs; i++) {
        uint32_t as = data[2 * i] % (TAUT_AS_LEVEL + 1u), n = data[2 * i + 1];
        bool     groups = as == TAUT_AS_GROUP8 || as == TAUT_AS_GROUP6;
        n = groups ? n % (STEP_VALUES / TAUT_STEP_GROUP + 1) * TAUT_STEP_GROUP : n % (STEP_VALUES + 1);
        run[i] = (taut__run){as, n};
    }
    return taut__step_bytes(run, runs);
}

/* A rank's own values: of all signs and sizes, many of them zero. */
static void step_fill(step_vector *v, const taut__run *run, size_t runs, bool squeezed, uint8_t *flat)
{
    for (size_t i = 0; i < STEP_ALL; i++) {
        double x = i % 3 ? (i % 2 ? 1 : -1) * 1e-3 * (double)(1 << i % 13) : 0;
        v->values[i] = x < 0 ? -x : x; /* codes have no sign */
        v->floats[i] = (float)x;
    }
    v->sums = (taut__step_sums){{0}, run, runs, v->values, v->floats, squeezed, 0, flat};
    taut__step_words(&v->sums, STEP_SEED);
}

static uint8_t *step_message(step_vector *v, size_t room, const uint8_t *data, size_t size, bool patches, size_t *n)
{
    if (!patches) return *n = size, fuzz_copy(data, size);
    uint8_t *wire = malloc(room);
    FUZZ_HOLDS(wire);
    *n = taut__step_pack(&v->sums, STEP_SEED, wire);
    FUZZ_HOLDS(*n <= room);
    for (; size >= 3; data += 3, size -= 3) wire[(data[0] | data[1] << 8) % *n] = data[2];
    uint8_t *exact = fuzz_copy(wire, *n);
    free(wire);
    return exact;
}

/* What v holds now, sent on: the words, and all values, arrive as they have become here. */
static void step_sent_on(step_vector *v, size_t bytes, size_t room)
{
    static step_vector other;
    uint8_t           *wire = malloc(room), *flat = malloc(bytes), *exact;
    FUZZ_HOLDS(wire && flat);
    size_t n = taut__step_pack(&v->sums, STEP_SEED + 1, wire);
    FUZZ_HOLDS(n <= room && (v->sums.squeezed || n == bytes));
    exact = fuzz_copy(wire, n);
    other = *v;
    other.sums.values = other.values, other.sums.floats = other.floats, other.sums.flat = flat;
    memset(other.sums.word, 0, sizeof other.sums.word);
    for (size_t i = 0, values = 0, floats = 0; i < v->sums.runs;
         i++) { /* of all runs: nothing is left of what was there */
        bool in_floats = v->sums.run[i].as >= TAUT_AS_FLOAT;
        for (size_t k = 0; k < v->sums.run[i].n; k++)
            if (in_floats) other.floats[floats++] = -5;
            else other.values[values++] = -5;
    }
    taut__step_take(&other.sums, STEP_SEED + 1, exact, n);
    FUZZ_HOLDS(memcmp(other.values, v->values, sizeof v->values) == 0);
    FUZZ_HOLDS(memcmp(other.floats, v->floats, sizeof v->floats) == 0);
    FUZZ_HOLDS(memcmp(other.sums.word, v->sums.word, sizeof v->sums.word) == 0);
    free(exact);
    free(flat);
    free(wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static step_vector v;
    taut__run          run[STEP_RUNS];
    size_t             runs, bytes, room, n;
    if (size < 2 || size < 2 + 2 * (runs = 1 + data[1] % STEP_RUNS)) return 0;
    bool squeezed = data[0] & 1, patches = data[0] & 8;
    bytes = step_runs(run, runs, data + 2);
    room = squeezed ? taut__step_room(bytes) : bytes;
    uint8_t *flat = malloc(bytes), *message;
    FUZZ_HOLDS(flat);
    step_fill(&v, run, runs, squeezed, flat);
    message = step_message(&v, room, data + 2 + 2 * runs, size - 2 - 2 * runs, patches, &n);
    if (data[0] & 4) taut__step_take(&v.sums, STEP_SEED, message, n);
    else taut__step_add(&v.sums, STEP_SEED, message, n, data[0] & 2);
    if (!squeezed) FUZZ_HOLDS(n == bytes || v.sums.word[0] != v.sums.word[1]);
    step_sent_on(&v, bytes, room);
    free(message);
    free(flat);
    return 0;
}
