#include "kernels/cuda/sample.h"

#include "base/check.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sample_launch.h"

namespace foveal::kernels::cuda {

void sample(const SampleParams& params, Stream& stream) {
  constexpr std::string_view kWhere = "sample";
  void* const native = native_stream(stream, kWhere);
  const auto& p = params;
  FOVEAL_CHECK(p.m >= 0 && p.vocab > 0 && p.vocab <= kMaxSampleVocab, ErrorKind::kUnsupported,
               kWhere, "got {} rows, vocab {}; need vocab in 1 to {}", p.m, p.vocab,
               kMaxSampleVocab);
  FOVEAL_CHECK(p.logits_stride >= p.vocab && p.logits_stride % 4 == 0 &&
                   reinterpret_cast<uintptr_t>(p.logits) % 16 == 0,
               ErrorKind::kInternal, kWhere,
               "got logits at {} with stride {}; need 16-byte rows of at least {}",
               fmt::ptr(p.logits), p.logits_stride, p.vocab);
  FOVEAL_CHECK((p.edits == nullptr || p.edit_begin != nullptr) &&
                   (p.allowed == nullptr || p.allowed_stride * 32 >= p.vocab),
               ErrorKind::kInternal, kWhere,
               "got edits without edit_begin, or masks of {} words; need {}", p.allowed_stride,
               (p.vocab + 31) / 32);
  if (p.m > 0) sample_launch(p, native);
}

}  // namespace foveal::kernels::cuda
