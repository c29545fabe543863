#include "cuda_rows.h"

namespace foveal::bench {

CudaKernels::CudaKernels() : rows_(std::make_unique<CudaRows>()) {}
CudaKernels::~CudaKernels() = default;

const Roof& CudaKernels::roof() const { return rows_->roof(); }

void CudaKernels::time(const std::vector<std::string>& families, const KernelShape& shape,
                       const std::function<void(const KernelRow&)>& done) {
  for (const std::string& family : families) {
    if (family == "attention") rows_->attention(shape, done);
    if (family == "rocket") rows_->rocket(shape, done);
    if (family == "topk") rows_->top_k(shape, done);
    if (family == "dsa") rows_->dsa(shape, done);
    if (family == "gemm") rows_->gemm(shape, done);
  }
}

}  // namespace foveal::bench
