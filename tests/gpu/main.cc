// main() of every gpu-labelled test: where GPU 0 is none that our kernels run on, all tests are
// skipped, with the reason, so that one build serves machines with a GPU and without.
#include <gtest/gtest.h>

#include "base/error.h"
#include "device/backend.h"
#include "device/choose.h"

namespace foveal {
namespace {

class NeedGpu : public testing::Environment {
 public:
  void SetUp() override {
    try {
      check_gpu(cuda::list_gpus(), 0);
    } catch (const Error& error) {
      GTEST_SKIP() << "gpu tests skipped: " << error.what();
    }
  }
};

}  // namespace
}  // namespace foveal

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::AddGlobalTestEnvironment(new foveal::NeedGpu);  // owned by GoogleTest
  return RUN_ALL_TESTS();
}
