#include "base/error.h"
#include "model/cuda/decoder.h"

namespace foveal::model {

std::unique_ptr<Model> make_cuda_decoder(const Checkpoint& /*checkpoint*/,
                                         const DecoderTraits& /*traits*/,
                                         const ModelLimits& /*limits*/, Stream& /*stream*/) {
  fail(ErrorKind::kUnsupported, "model", "got cuda; need cpu (CUDA is not in this build)");
}

}  // namespace foveal::model
