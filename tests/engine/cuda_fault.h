#pragma once

namespace foveal::test {

/// Makes the GPU of this process fail every later call, as a kernel's fault does.
void lose_device();

}  // namespace foveal::test
