// Builds without CUDA.
#include "attention/dsa/dsa_device.h"

namespace foveal::attention::dsa {

std::unique_ptr<DsaDevice> make_dsa_device(const Settings& /*settings*/) { return nullptr; }

}  // namespace foveal::attention::dsa
