#pragma once

#include <cstdint>

namespace foveal {

/// Bytes of memory this process can still get: the least of what the system has, what its cgroup
/// has left and what its address space limit (`ulimit -v`) leaves. INT64_MAX where nothing says.
int64_t available_memory_bytes();

}  // namespace foveal
