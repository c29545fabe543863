#pragma once

#include <unordered_map>
#include <vector>

#include "device/cuda/cublaslt.h"
#include "kernels/cuda/dense_gemm.h"

namespace foveal::kernels::cuda {

/// What an algorithm is remembered by.
struct LtKey {
  int64_t m_bucket = 0;
  int64_t n = 0;
  int64_t k = 0;
  int64_t batch = 1;
  DType dtype = DType::kBF16;
  DType y_dtype = DType::kBF16;
  GemmScaling scaling = GemmScaling::kNone;
  bool accumulate = false;
  bool bias = false;

  bool operator==(const LtKey&) const = default;
};
struct LtKeyHash {
  size_t operator()(const LtKey& key) const;
};

/// Rows up to which one choice of the library serves: sixteens, later quarters of a power of two.
int64_t lt_bucket(int64_t m);

/// The library route of DenseGemm: checked products on cuBLASLt.
class LtGemm {
 public:
  LtGemm(Device device, const DenseGemmOptions& options);
  ~LtGemm();
  LtGemm(const LtGemm&) = delete;
  LtGemm& operator=(const LtGemm&) = delete;

  void run(const DenseGemmParams& params, Stream& stream);

 private:
  struct Call;  ///< the library's descriptors of one product
  using Choice = cublasLtMatmulHeuristicResult_t;

  const Choice& choose(const DenseGemmParams& params, const Call& call, Stream& stream);
  std::vector<Choice> candidates(const DenseGemmParams& params, int count) const;
  Choice fastest(const DenseGemmParams& params, const Call& call, Stream& stream);
  cublasStatus_t issue(const DenseGemmParams& params, const Call& call, const Choice& choice,
                       void* y, Stream& stream) const;

  const foveal::cuda::CublasLt& lt_;
  DenseGemmOptions options_;
  Device device_;
  cublasLtHandle_t handle_ = nullptr;
  Buffer workspace_;
  std::unordered_map<LtKey, Choice, LtKeyHash> choices_;
};

}  // namespace foveal::kernels::cuda
