// The other half of odr_a.cpp.
#include "all.hpp"

int version_seen_by_b();

int version_seen_by_b() { return FEDAGENT_VERSION; }
