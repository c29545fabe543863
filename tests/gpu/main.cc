// main() of every gpu-labelled test: where there is no GPU that our kernels run on, all tests are
// skipped, with the reason, so that one build serves machines with a GPU and without.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <string>

namespace {

std::string missing_gpu() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) return cudaGetErrorString(status);
  if (count == 0) return "the driver shows no GPU";
  cudaDeviceProp properties{};
  if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) return "GPU 0 does not answer";
  if (properties.major == 9 && properties.minor == 0) return "";
  return std::string("GPU 0 is ") + properties.name + "; need compute capability 9.0 (H100, H200)";
}

class NeedGpu : public testing::Environment {
 public:
  void SetUp() override {
    const std::string reason = missing_gpu();
    if (!reason.empty()) GTEST_SKIP() << "gpu tests skipped: " << reason;
  }
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::AddGlobalTestEnvironment(new NeedGpu);  // owned by GoogleTest
  return RUN_ALL_TESTS();
}
