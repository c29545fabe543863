#include "base/error.h"
#include "engine/device_step.h"

namespace foveal::engine {

std::unique_ptr<DeviceStep> make_device_step(const Setup& /*setup*/, model::Model& /*model*/,
                                             attention::AttentionStep& /*attention*/,
                                             const kv::KvStorage& /*storage*/,
                                             std::span<const KvLayerView> /*views*/,
                                             Stream& /*stream*/) {
  fail(ErrorKind::kUnsupported, "engine", "got cuda; need cpu (CUDA is not in this build)");
}

}  // namespace foveal::engine
