/* select_registry.c : the methods, in the order in which --help lists them. */
#include "select.h"

extern const taut__method taut__method_dedup, taut__method_softdedup, taut__method_dsir, taut__method_zipfit,
    taut__method_entropy, taut__method_prior, taut__method_kcenter, taut__method_semdedup, taut__method_el2n,
    taut__method_forgetting, taut__method_infobatch, taut__method_length, taut__method_curriculum;

static const taut__method *const methods[] = {
    &taut__method_dedup,      &taut__method_softdedup,  &taut__method_dsir,      &taut__method_zipfit,
    &taut__method_entropy,    &taut__method_prior,      &taut__method_kcenter,   &taut__method_semdedup,
    &taut__method_el2n,       &taut__method_forgetting, &taut__method_infobatch, &taut__method_length,
    &taut__method_curriculum,
};

const taut__method *taut__method_at(size_t i) { return i < sizeof methods / sizeof *methods ? methods[i] : NULL; }

const char *taut_data_method_name(size_t i) { return i < sizeof methods / sizeof *methods ? methods[i]->name : NULL; }
const char *taut_data_method_help(size_t i) { return i < sizeof methods / sizeof *methods ? methods[i]->help : NULL; }
