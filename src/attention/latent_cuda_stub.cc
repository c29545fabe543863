#include "attention/latent.h"
#include "base/error.h"

namespace foveal::attention {

size_t latent_workspace_bytes(const AttendArgs& /*args*/, const LatentLists& /*lists*/) {
  return 0;
}

void attend_latent_cuda(const AttendArgs& args, const LatentLists& /*lists*/,
                        std::byte* /*workspace*/, Stream& stream) {
  attend_latent_cuda(args, stream);
}

void attend_latent_cuda(const AttendArgs& /*args*/, Stream& /*stream*/) {
  fail(ErrorKind::kUnsupported, "attention", "got cuda; need cpu (CUDA is not in this build)");
}

}  // namespace foveal::attention
