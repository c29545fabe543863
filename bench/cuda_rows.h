#pragma once

#include <functional>

#include "cuda_bench.h"
#include "kernel_rows.h"
#include "kernels/cuda/dense_gemm.h"

namespace foveal::bench {

/// The rows of `foveal bench kernels` on a GPU, a member a family. Values of each are checked after
/// its timed run.
class CudaRows : public CudaBench {
 public:
  using Done = std::function<void(const KernelRow&)>;

  CudaRows();
  const Roof& roof() const { return roof_; }

  void attention(const KernelShape& shape, const Done& done);
  void rocket(const KernelShape& shape, const Done& done);
  void top_k(const KernelShape& shape, const Done& done);
  void dsa(const KernelShape& shape, const Done& done);
  void gemm(const KernelShape& shape, const Done& done);

 private:
  void add(KernelRow row, const Done& done, bool e4m3 = false) const;

  void index_scores(const KernelShape& shape, const Done& done);
  void latent(const KernelShape& shape, const Done& done);
  void gemm_decode(const KernelShape& shape, int64_t m, const Done& done);
  /// Microseconds of one product of bf16, or of e4m3 with a scale a tensor.
  double product(int64_t m, int64_t n, int64_t k, bool e4m3);
  /// Of e4m3 with scales of blocks, of a prefill's shape.
  double blocks(const KernelShape& shape);

  kernels::cuda::DenseGemm gemm_;
  Roof roof_;
};

}  // namespace foveal::bench
