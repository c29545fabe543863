#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/thread_pool.h"

namespace foveal::bench {

/// What this machine can do at most, measured in the same run.
struct Roof {
  std::string device = "cpu";  ///< or a GPU's name
  /// On a CPU of the widest multiply-add, bf16 pairs where there are any; on a GPU of the largest
  /// of the library's bf16 products.
  double gflops = 0;
  double gflops_f32 = 0;   ///< CPU: in float32
  double gflops_e4m3 = 0;  ///< GPU: of a product of e4m3
  double gbps = 0;         ///< reading memory that no cache holds
  double copy_gbps = 0;    ///< GPU: read and written together
  int threads = 0;
  std::string isa;
};

Roof measure_roof(ThreadPool& pool);

/// One kernel on one shape.
struct KernelRow {
  std::string kernel;  ///< attention_prefill, attention_decode, skip_softmax_*, rocket: *, topk,
                       ///< dsa: *, gemm_*
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
  int32_t layers = 16;  ///< CPU: distinct caches, so that decode's are not found in its cache
  int32_t batch = 8;    ///< GPU: sequences of a decode step
  int32_t page_size = 64;
  int32_t topk = 64;  ///< rocket: pages
  std::vector<float> factors{100};
  DType weights = DType::kBF16;
  int64_t n = 4096;  ///< of a GEMM's weights
  int64_t k = 4096;
  double min_seconds = 0.3;  ///< of each case
};

/// Throws kInvalidArgument, naming the flag, for sizes that the CPU's kernels of these families do
/// not have.
void check_shape(const std::vector<std::string>& families, const KernelShape& shape);

/// Times the families that are wanted (attention, rocket, topk, gemm) on the CPU. Every case's
/// values are checked after its timed run: throws kInternal where they are wrong.
void time_kernels(const std::vector<std::string>& families, const KernelShape& shape,
                  ThreadPool& pool, const Roof& roof,
                  const std::function<void(const KernelRow&)>& done);

/// Of auto, cpu, cuda, as everywhere. Throws for what is not there.
bool is_cuda(std::string_view device);

class CudaRows;

/// The same on the first GPU, and the family dsa: medians of events around graph replays, decode
/// with a second-level cache that has none of it.
class CudaKernels {
 public:
  /// Measures the roof. Throws kUnsupported in a build without CUDA.
  CudaKernels();
  ~CudaKernels();

  const Roof& roof() const;
  void time(const std::vector<std::string>& families, const KernelShape& shape,
            const std::function<void(const KernelRow&)>& done);

 private:
  std::unique_ptr<CudaRows> rows_;
};

}  // namespace foveal::bench
