// Builds without CUDA.
#include "attention/rocket/rocket_device.h"

namespace foveal::attention::rocket {

std::unique_ptr<RocketDevice> make_rocket_device(const Settings& /*settings*/,
                                                 const ModelShape& /*shape*/) {
  return nullptr;
}

}  // namespace foveal::attention::rocket
