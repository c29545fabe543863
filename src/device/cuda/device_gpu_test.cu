#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "base/error.h"
#include "device/cuda/check.h"
#include "device/cuda/cublaslt.h"
#include "device/cuda/driver.h"
#include "device/cuda/properties.h"
#include "device/graph.h"
#include "device/staging.h"

namespace foveal {
namespace {

constexpr Device kGpu{DeviceKind::kCuda, 0};

__global__ void add_one(int* values, int count) {
  const int idx = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (idx < count) ++values[idx];
}

__global__ void write_to(int* address) { *address = 1; }

void add_one_launch(int* values, int count, const Stream& stream) {
  add_one<<<(count + 127) / 128, 128, 0, static_cast<cudaStream_t>(stream.native())>>>(values,
                                                                                       count);
  cuda::check_launch("add_one");
}

std::vector<int> download(const Stream& stream, const void* from, size_t count) {
  std::vector<int> values(count);
  stream.copy(values.data(), from, count * sizeof(int));
  stream.synchronize();
  return values;
}

class DeviceGpuTest : public testing::Test {
 protected:
  ThreadPool pool_{1};
  Stream stream_{kGpu, pool_};
};

TEST_F(DeviceGpuTest, ParsesAndDescribes) {
  EXPECT_EQ(parse_device("auto"), kGpu);
  EXPECT_EQ(parse_device("cuda"), kGpu);
  EXPECT_EQ(parse_device("cuda:0"), kGpu);
  EXPECT_THROW(parse_device("cuda:64"), Error);
  const cuda::DeviceProperties& gpu = cuda::device_properties(0);
  std::printf("%s: %d SMs, L2 %lld bytes, shared %zu, memory %lld, driver %d\n", gpu.name.c_str(),
              gpu.num_sms, static_cast<long long>(gpu.l2_bytes), gpu.max_shared_bytes,
              static_cast<long long>(gpu.memory_bytes), gpu.driver_version);
  EXPECT_EQ(gpu.major, 9);
  EXPECT_GE(gpu.num_sms, 78);
  EXPECT_GE(gpu.max_shared_bytes, 227U * 1024);
  EXPECT_EQ(cuda::current_device(), 0);
}

TEST_F(DeviceGpuTest, BuffersAreZeroedAndCounted) {
  const int64_t before = available_memory(kGpu);
  const size_t count = size_t{64} << 20;
  const Buffer buffer(kGpu, count * sizeof(int), "test");
  EXPECT_LE(available_memory(kGpu), before - static_cast<int64_t>(count * sizeof(int)));
  EXPECT_EQ(download(stream_, buffer.data(), 1000), std::vector<int>(1000, 0));
  EXPECT_EQ(download(stream_, buffer.data() + (count - 1000) * sizeof(int), 1000),
            std::vector<int>(1000, 0));
  stream_.fill(buffer.data(), 0xff, 40);
  EXPECT_EQ(download(stream_, buffer.data(), 11)[9], -1);
  EXPECT_EQ(download(stream_, buffer.data(), 11)[10], 0);
}

TEST_F(DeviceGpuTest, TooMuchMemoryIsSaidAndHarmless) {
  try {
    const Buffer buffer(kGpu, size_t{1} << 42, "a large test");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kOutOfMemory);
    EXPECT_STREQ(
        error.what(),
        "[memory] got no 4398046511104 bytes for a large test; need that much free on cuda:0");
  }
  const Buffer small(kGpu, 4, "test");
  add_one_launch(reinterpret_cast<int*>(small.data()), 1, stream_);
  EXPECT_EQ(download(stream_, small.data(), 1)[0], 1);
}

TEST_F(DeviceGpuTest, WorkIsOrderedAcrossStreamsByEvents) {
  const Buffer buffer(kGpu, 4000, "test");
  auto* values = reinterpret_cast<int*>(buffer.data());
  const Stream other(kGpu, pool_);
  Event start(kGpu, Event::Timing::kOn);
  Event done(kGpu, Event::Timing::kOn);
  start.record(stream_);
  for (int round = 0; round < 100; ++round) add_one_launch(values, 1000, stream_);
  done.record(stream_);
  done.block(other);
  add_one_launch(values, 1000, other);
  EXPECT_EQ(download(other, values, 1000), std::vector<int>(1000, 101));
  done.synchronize();
  EXPECT_TRUE(done.is_done());
  EXPECT_GT(done.elapsed_ms(start), 0.0F);
}

TEST_F(DeviceGpuTest, GraphsReplayAndReadTheDevice) {
  const Buffer buffer(kGpu, 4000, "test");
  auto* values = reinterpret_cast<int*>(buffer.data());
  stream_.scratch(1 << 20);
  Graph graph = Graph::capture(stream_, [&] {
    EXPECT_TRUE(stream_.is_capturing());
    stream_.fill(stream_.scratch(1000), 1, 1000);
    for (int round = 0; round < 3; ++round) add_one_launch(values, 1000, stream_);
    EXPECT_THROW(stream_.scratch(size_t{64} << 20), Error);
  });
  EXPECT_EQ(download(stream_, values, 1000), std::vector<int>(1000, 0));
  stream_.scratch(size_t{64} << 20);  // the graph's scratch stays alive
  for (int round = 0; round < 10; ++round) graph.launch(stream_);
  EXPECT_EQ(download(stream_, values, 1000), std::vector<int>(1000, 30));
  Graph moved = std::move(graph);
  moved.launch(stream_);
  EXPECT_EQ(download(stream_, values, 1)[0], 33);
}

TEST_F(DeviceGpuTest, AThrowInACaptureLeavesTheStreamUsable) {
  const Buffer buffer(kGpu, 4, "test");
  auto* value = reinterpret_cast<int*>(buffer.data());
  EXPECT_THROW(Graph::capture(stream_,
                              [&] {
                                add_one_launch(value, 1, stream_);
                                fail(ErrorKind::kCancelled, "test", "got enough; need no more");
                              }),
               Error);
  EXPECT_FALSE(stream_.is_capturing());
  add_one_launch(value, 1, stream_);
  EXPECT_EQ(download(stream_, value, 1)[0], 1);
}

TEST_F(DeviceGpuTest, AnotherThreadMayAllocateDuringACapture) {
  const Buffer buffer(kGpu, 4, "test");
  auto* value = reinterpret_cast<int*>(buffer.data());
  const Graph graph = Graph::capture(stream_, [&] {
    std::thread([] { const Buffer other(kGpu, size_t{1} << 20, "test"); }).join();
    add_one_launch(value, 1, stream_);
  });
  graph.launch(stream_);
  EXPECT_EQ(download(stream_, value, 1)[0], 1);
}

TEST_F(DeviceGpuTest, UploadsTakeTurns) {
  StepUpload upload(kGpu, 1 << 20);
  const Buffer sums(kGpu, 4000, "test");
  for (int step = 0; step < 20; ++step) {
    upload.begin();
    const auto ids = upload.add<int>(1000);
    for (int& id : ids.host) id = step;
    upload.send(stream_);
    add_one_launch(ids.device, 1000, stream_);
    EXPECT_EQ(download(stream_, ids.device, 1000), std::vector<int>(1000, step + 1));
  }
}

TEST_F(DeviceGpuTest, ABadLaunchNamesTheKernel) {
  add_one<<<1, 4096, 0, static_cast<cudaStream_t>(stream_.native())>>>(nullptr, 0);
  try {
    cuda::check_launch("add_one");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).rfind("[add_one] got cudaErrorInvalid", 0), 0U)
        << error.what();
  }
  const Buffer buffer(kGpu, 4, "test");
  add_one_launch(reinterpret_cast<int*>(buffer.data()), 1, stream_);
  EXPECT_EQ(download(stream_, buffer.data(), 1)[0], 1);
}

TEST_F(DeviceGpuTest, LibrariesAndDriverAnswer) {
  EXPECT_NE(cuda::driver().tensor_map_encode_tiled, nullptr);
  cublasLtHandle_t handle = nullptr;
  cuda::check(cuda::cublas_lt().create(&handle), "cublasLtCreate");
  cuda::check(cuda::cublas_lt().destroy(handle), "cublasLtDestroy");
}

void synchronize_after_bad_write() {
  ThreadPool pool(1);
  const Stream stream(kGpu, pool);
  write_to<<<1, 1, 0, static_cast<cudaStream_t>(stream.native())>>>(reinterpret_cast<int*>(64));
  cuda::check_launch("write_to");
  try {
    stream.synchronize();
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
  }
  std::_Exit(0);
}

// In a process of its own: no CUDA call succeeds after such an error.
TEST(DeviceGpuDeathTest, AKernelsErrorNamesIt) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(synchronize_after_bad_write(), testing::ExitedWithCode(0),
              "cudaErrorIllegalAddress.*cudaStreamSynchronize.*the last launched was write_to");
}

}  // namespace
}  // namespace foveal
