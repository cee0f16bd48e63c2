// Two translation units that include everything, linked into one program: a function or a variable
// that a header defines without `inline` shows itself here.
#include "all.hpp"

static_assert(FEDAGENT_VERSION == PROJECT_VERSION, "version.hpp and meson.build name two versions");

int version_seen_by_b();

int main() { return version_seen_by_b() == FEDAGENT_VERSION ? 0 : 1; }
