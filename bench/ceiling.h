#pragma once

#include <cstdint>

#include "base/thread_pool.h"

namespace foveal::bench {

/// What this machine can do at most, measured in the same run as what is compared with it.

/// GFLOP/s of `pool` doing nothing but the widest multiply-add of the active instruction-set level
/// (bf16 pairs where it has them, unless `f32`) on registers.
double peak_gflops(ThreadPool& pool, bool f32);

/// GB/s of `pool` summing `bytes` at `data` once, in chunks as a decode GEMM takes them.
double stream_gbps(ThreadPool& pool, const uint8_t* data, int64_t bytes);

/// Likewise of memory of its own, larger than any cache.
double stream_gbps(ThreadPool& pool);

/// One level's loops; each answers something that depends on all of its work.
struct CeilingLoops {
  int f32_flops;   ///< of one iteration
  int pair_flops;  ///< likewise; 0: no bf16 instruction
  float (*f32)(int64_t iterations);
  float (*pairs)(int64_t iterations);
  float (*read)(const uint8_t* data, int64_t bytes);
};

}  // namespace foveal::bench
