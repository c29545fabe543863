// Builds without CUDA.
#include "attention/dsa/dsa_device.h"
#include "base/error.h"

namespace foveal::attention::dsa {

std::unique_ptr<DsaDevice> make_dsa_device(const Settings& /*settings*/) {
  fail(ErrorKind::kUnsupported, "dsa", "got cuda; need cpu (CUDA is not in this build)");
}

}  // namespace foveal::attention::dsa
