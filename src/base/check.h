#pragma once

#include "base/error.h"

/// Refuses what a caller or a file got wrong. Always on.
#define FOVEAL_CHECK(cond, kind, where, ...)                   \
  do {                                                         \
    if (!(cond)) ::foveal::fail((kind), (where), __VA_ARGS__); \
  } while (false)

/// Guards against our own mistakes. Always on where cheap: a wrong answer costs more than a
/// compare.
#define FOVEAL_INVARIANT(cond)                                                               \
  do {                                                                                       \
    if (!(cond)) ::foveal::fail(::foveal::ErrorKind::kInternal, __func__, "broken: " #cond); \
  } while (false)

/// The same for inner loops: only in builds without NDEBUG.
#ifdef NDEBUG
#define FOVEAL_DCHECK(cond) \
  do {                      \
  } while (false)
#else
#define FOVEAL_DCHECK(cond) FOVEAL_INVARIANT(cond)
#endif
