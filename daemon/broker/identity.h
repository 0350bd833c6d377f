/* What the user database says of a uid. The uid itself always comes from the kernel. */
#pragma once

#include "policy/config.h"

/* who->uid is given; fills in what is known: nothing for a uid that has no entry. */
void identity_load(struct identity *who);
void identity_done(struct identity *who);
