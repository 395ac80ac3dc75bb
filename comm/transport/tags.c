/* tags.c : see tags.h. */
#include "tags.h"

static taut__tag_counts *seek(taut__tag_counts *place, size_t room, int tag)
{
    size_t i = taut__mix64((uint64_t)(uint32_t)tag) & (room - 1);
    while (place[i].tag >= 0 && place[i].tag != tag) i = (i + 1) & (room - 1);
    return &place[i];
}

static taut_status grow(taut__tag_table *t)
{
    size_t            room = t->room ? 2 * t->room : 64;
    taut__tag_counts *place = taut__alloc(room, sizeof *place);
    if (!place) return taut__fail(TAUT_E_NOMEM, "assured delivery: out of memory for %zu tags", room);
    for (size_t i = 0; i < room; i++) place[i].tag = -1;
    for (size_t i = 0; i < t->room; i++)
        if (t->place[i].tag >= 0) *seek(place, room, t->place[i].tag) = t->place[i];
    taut__free(t->place);
    t->place = place, t->room = room;
    return TAUT_OK;
}

taut_status taut__tags_find(taut__tag_table *t, int tag, taut__tag_counts **c)
{
    if (2 * (t->n + 1) > t->room) TAUT_TRY(grow(t));
    *c = seek(t->place, t->room, tag);
    if ((*c)->tag < 0) t->n++;
    (*c)->tag = tag;
    return TAUT_OK;
}

void taut__tags_free(taut__tag_table *t)
{
    taut__free(t->place);
    *t = (taut__tag_table){0};
}
