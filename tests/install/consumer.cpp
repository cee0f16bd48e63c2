// The smallest user of an installed fedagent.
#include <fedagent/fedagent.hpp>

int main() { return FEDAGENT_VERSION > 0 ? 0 : 1; }
