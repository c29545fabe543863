#include "kernels/cuda/token_logprob.h"

#include "base/check.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/token_logprob_launch.h"

namespace foveal::kernels::cuda {

void token_logprobs(const TokenLogprobParams& params, Stream& stream) {
  constexpr std::string_view kWhere = "token_logprobs";
  void* const native = native_stream(stream, kWhere);
  const auto& p = params;
  FOVEAL_CHECK(p.m >= 0 && p.vocab > 0, ErrorKind::kInternal, kWhere,
               "got {} rows, vocab {}; need rows of at least one", p.m, p.vocab);
  FOVEAL_CHECK(p.logits_stride >= p.vocab && p.logits_stride % 4 == 0 &&
                   reinterpret_cast<uintptr_t>(p.logits) % 16 == 0,
               ErrorKind::kInternal, kWhere,
               "got logits at {} with stride {}; need 16-byte rows of at least {}",
               fmt::ptr(p.logits), p.logits_stride, p.vocab);
  if (p.m > 0) token_logprobs_launch(p, native);
}

}  // namespace foveal::kernels::cuda
