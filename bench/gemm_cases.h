#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/thread_pool.h"
#include "kernels/gemm.h"

namespace foveal::bench {

/// One gemm call: outputs of `n` columns each that share x.
struct GemmCall {
  DType dtype;
  int64_t k;
  std::vector<int64_t> n;
};

struct GemmCase {
  std::string name;
  kernels::GemmPath path;
  int64_t m;
  std::vector<GemmCall> calls;  ///< one layer
  int layers;                   ///< distinct weights, so that a pass does not fit any cache
};

/// The tables of docs/kernels/gemm.md.
std::vector<GemmCase> gemm_cases();
/// A product of weights [n, k] with m rows; so many layers that their weights are 128 MB.
GemmCase gemm_case(kernels::GemmPath path, DType dtype, int64_t m, int64_t n, int64_t k);

struct GemmRow {
  double median = 0;  ///< seconds of a pass
  double best = 0;
  double high = 0;         ///< nine in ten were shorter
  double gflop = 0;        ///< 2 for each multiply-add
  double gbyte = 0;        ///< of weights
  double stream_gbps = 0;  ///< what reading those weights could reach, in this run
};

/// Times passes through all layers, seven at least and for `min_seconds`; by the process's own
/// clock where `cpu_time`. A sample of the values is checked after that: throws kInternal where
/// they are wrong.
GemmRow time_gemm(const GemmCase& wanted, ThreadPool& pool, bool cpu_time, double min_seconds = 1);

const char* path_name(kernels::GemmPath path);

}  // namespace foveal::bench
