/* select_group.c : what the ranks do together; see select.h. */
#include "select.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

uint32_t taut__select_rank(const taut__select *s) { return s->o->group ? s->o->group->rank : 0; }

taut_status taut__select_ask(const taut__select *s, taut_status mine)
{
    const taut_data_group *g = s->o->group;
    char                   text[512] = "";
    taut_status            all;
    if (!g) return mine;
    if (mine != TAUT_OK) snprintf(text, sizeof text, "%s", taut_last_error());
    all = g->agree(g->ctx, mine, text, sizeof text);
    if (all == TAUT_OK || all == mine) return all;
    return taut__fail(all, "%s", *text ? text : taut_status_text(all));
}

taut_status taut__select_sum_agreed(const taut__select *s, uint64_t *x, size_t n)
{
    const taut_data_group *g = s->o->group;
    return g ? g->sum(g->ctx, x, n) : TAUT_OK;
}

taut_status taut__select_gather_agreed(const taut__select *s, const void *part, void *all, const size_t *bytes)
{
    const taut_data_group *g = s->o->group;
    if (g) return g->gather(g->ctx, part, all, bytes);
    if (bytes[0]) memcpy(all, part, bytes[0]);
    return TAUT_OK;
}

taut_status taut__select_collect_agreed(const taut__select *s, const void *part, size_t bytes, void **all,
                                        size_t *total)
{
    uint32_t ranks = taut__select_ranks(s);
    size_t  *each = taut__alloc(2 * (size_t)ranks, sizeof *each),
           *size = each + ranks; /* eight bytes a rank; what each has */
    taut_status status = each ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "plan: out of memory for %u ranks", ranks);
    for (uint32_t r = 0; each && r < ranks; r++) each[r] = sizeof bytes;
    if (!each) return taut__select_agree(s, status);
    status = taut__select_gather(s, status, &bytes, size, each);
    for (uint32_t r = 0; status == TAUT_OK && r < ranks; r++) *total += size[r];
    if (status == TAUT_OK) {
        *all = taut__alloc(*total + 1, 1);
        status = taut__select_gather(
            s, *all ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "plan: out of memory for %zu bytes", *total), part, *all,
            size);
    }
    taut__free(each);
    if (status != TAUT_OK) {
        taut__free(*all);
        *all = NULL;
    }
    return status;
}

taut_status taut__select_progress(const taut__select *s, const char *what, uint64_t done, uint64_t total)
{
    char text[96];
    if (!s->o->progress) return TAUT_OK;
    snprintf(text, sizeof text, "%s: %s", s->method->name, what);
    return s->o->progress(s->o->progress_ctx, text, done, total)
               ? taut__fail(TAUT_E_STATE, "%s: stopped", s->method->name)
               : TAUT_OK;
}

void taut__select_warn(const taut__select *s, const char *fmt, ...)
{
    char    text[512];
    va_list ap;
    if (!s->o->warn || taut__select_rank(s) != 0) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    s->o->warn(s->o->warn_ctx, text);
}
