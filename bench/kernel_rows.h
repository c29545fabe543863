#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/thread_pool.h"

namespace foveal::bench {

/// What this machine can do at most, measured in the same run.
struct Roof {
  double gflops = 0;      ///< the widest multiply-add, bf16 pairs where there are any
  double gflops_f32 = 0;  ///< in float32
  double gbps = 0;        ///< reading memory that no cache holds
  int threads = 0;
  std::string isa;
};

Roof measure_roof(ThreadPool& pool);

/// One kernel on one shape.
struct KernelRow {
  std::string
      kernel;  ///< attention_prefill, attention_decode, skip_softmax_*, rocket_*, topk, gemm_*
  std::string shape;
  double seconds = 0;
  double gflop = 0;     ///< counted; 0 where bytes decide
  double gbyte = 0;     ///< that must be read; 0 where operations decide
  double skipped = 0;   ///< share of key tiles left out
  double fraction = 0;  ///< of the roof that bounds it
  bool compute_bound() const { return gflop > 0; }
};

struct KernelShape {
  int32_t num_kv_heads = 3;
  int32_t group = 3;  ///< query heads a KV head
  int32_t head_dim = 64;
  int32_t keys = 4096;
  int32_t rows = 512;   ///< of a prefill chunk, and of a prefill GEMM
  int32_t layers = 16;  ///< distinct caches, so that decode's are not found in a processor's cache
  int32_t page_size = 64;
  int32_t topk = 64;  ///< rocket: pages
  std::vector<float> factors{100};
  DType weights = DType::kBF16;
  int64_t n = 4096;  ///< of a GEMM's weights
  int64_t k = 4096;
  double min_seconds = 0.3;  ///< of each case
};

/// Times the families that are wanted (attention, rocket, topk, gemm) on the CPU. Every case's
/// values are checked after its timed run: throws kInternal where they are wrong.
void time_kernels(const std::vector<std::string>& families, const KernelShape& shape,
                  ThreadPool& pool, const Roof& roof,
                  const std::function<void(const KernelRow&)>& done);

}  // namespace foveal::bench
