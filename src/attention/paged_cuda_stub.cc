#include "attention/paged.h"
#include "base/error.h"

namespace foveal::attention {

void attend_paged_cuda(Phase /*phase*/, const AttendArgs& /*args*/, const SkipPolicy& /*skip*/,
                       Stream& /*stream*/) {
  fail(ErrorKind::kUnsupported, "attention", "got cuda; need cpu (CUDA is not in this build)");
}

}  // namespace foveal::attention
