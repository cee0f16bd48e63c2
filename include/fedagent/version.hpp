#pragma once

/// The library's version, as major * 10000 + minor * 100 + patch.
#define FEDAGENT_VERSION 100
