#include "device/device.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "device/arena.h"
#include "device/choose.h"
#include "device/graph.h"
#include "device/staging.h"
#include "device/stream.h"

namespace foveal {
namespace {

const Gpu kH100{.name = "NVIDIA H100 80GB HBM3", .major = 9, .minor = 0};
const Gpu kA100{.name = "NVIDIA A100-SXM4-80GB", .major = 8, .minor = 0};
const Gpu kL40{.name = "NVIDIA L40", .major = 8, .minor = 9};
const Gpu kB200{.name = "NVIDIA B200", .major = 10, .minor = 0};
const Gpu kRtx{.name = "NVIDIA GeForce RTX 5090", .major = 12, .minor = 0};

template <class Call>
std::string error_of(const Call& call, ErrorKind kind) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST(DeviceTest, ParsesTheCpu) {
  EXPECT_EQ(parse_device("cpu"), Device{});
  EXPECT_EQ(device_name(parse_device("cpu")), "cpu");
  EXPECT_EQ(device_name({DeviceKind::kCuda, 3}), "cuda:3");
}

TEST(DeviceTest, RefusesOtherWords) {
  for (const char* word :
       {"", "gpu", "CPU", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda1", "cuda:99999999999"}) {
    EXPECT_EQ(error_of([&] { parse_device(word); }, ErrorKind::kInvalidArgument),
              fmt::format("[device] got '{}'; need auto, cpu or cuda:N", word));
  }
}

TEST(ChooseTest, TakesTheFirstGpuThatKernelsRunOn) {
  EXPECT_EQ(choose_gpu({.problem = {}, .gpus = {kH100, kH100}}).index, 0);
  EXPECT_EQ(choose_gpu({.problem = {}, .gpus = {kA100, kB200, kH100}}).index, 2);
}

TEST(ChooseTest, SaysWhyNone) {
  const GpuChoice absent = choose_gpu({.problem = "no CUDA driver is installed", .gpus = {}});
  EXPECT_FALSE(absent.index);
  EXPECT_EQ(absent.reason, "no CUDA driver is installed");
  EXPECT_EQ(choose_gpu({}).reason, "the CUDA driver shows no GPU");
  EXPECT_EQ(
      choose_gpu({.problem = {}, .gpus = {kA100, kB200}}).reason,
      "GPU 0 is NVIDIA A100-SXM4-80GB (compute capability 8.0), supported is compute capability "
      "9.0 (H100, H200, GH200)");
}

TEST(ChooseTest, RefusesOtherGpusByName) {
  const GpuList list{.problem = {}, .gpus = {kH100, kA100, kL40, kB200, kRtx}};
  check_gpu(list, 0);
  for (int index = 1; index < 5; ++index) {
    const Gpu& gpu = list.gpus[static_cast<size_t>(index)];
    EXPECT_EQ(
        error_of([&] { check_gpu(list, index); }, ErrorKind::kUnsupported),
        fmt::format("[device] got cuda:{}, {} (compute capability {}.{}); need a GPU of compute "
                    "capability 9.0 (H100, H200, GH200), or cpu",
                    index, gpu.name, gpu.major, gpu.minor));
  }
}

TEST(ChooseTest, RefusesWhatIsNotThere) {
  EXPECT_EQ(
      error_of([] { check_gpu({.problem = {}, .gpus = {kH100}}, 1); }, ErrorKind::kUnsupported),
      "[device] got cuda:1 on a machine with 1 GPU; need cuda:0");
  EXPECT_EQ(error_of([] { check_gpu({.problem = {}, .gpus = {kH100, kH100}}, 2); },
                     ErrorKind::kUnsupported),
            "[device] got cuda:2 on a machine with 2 GPUs; need cuda:0 to cuda:1");
  EXPECT_EQ(error_of([] { check_gpu({.problem = "no CUDA driver is installed", .gpus = {}}, 0); },
                     ErrorKind::kUnsupported),
            "[device] got cuda:0; need auto or cpu (no CUDA driver is installed)");
  EXPECT_EQ(error_of([] { check_gpu({}, 0); }, ErrorKind::kUnsupported),
            "[device] got cuda:0; need auto or cpu (the CUDA driver shows no GPU)");
}

TEST(ArenaTest, RepeatsAddressesAndKeepsOldBlocks) {
  Arena arena(Device{}, "test");
  std::byte* first = arena.take(100);
  std::byte* second = arena.take(1);
  EXPECT_EQ(second - first, 256);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 256, 0U);
  std::byte* large = arena.take(size_t{3} << 20);  // a second block
  large[0] = std::byte{1};
  first[0] = std::byte{2};  // the first one is still there
  EXPECT_EQ(arena.used(), 512 + (size_t{3} << 20));
  arena.reset();
  EXPECT_EQ(arena.used(), 0U);
  EXPECT_EQ(arena.take(100), first);
  EXPECT_EQ(arena.take(1), second);
  EXPECT_EQ(arena.take(size_t{3} << 20), large);
  EXPECT_EQ(arena.peak(), arena.used());
  EXPECT_NE(arena.take(0), arena.take(0));
}

TEST(ArenaTest, ReserveMakesOneBlock) {
  Arena arena(Device{}, "test");
  arena.take(1);
  EXPECT_THROW(arena.reserve(1000), Error);
  arena.reset();
  arena.reserve(size_t{8} << 20);
  const size_t held = arena.capacity();
  std::byte* before = arena.take(size_t{1} << 20);
  for (int piece = 1; piece < 8; ++piece) {
    std::byte* next = arena.take(size_t{1} << 20);
    EXPECT_EQ(next - before, 1 << 20);
    before = next;
  }
  EXPECT_EQ(arena.capacity(), held);
  arena.reset();
  arena.reserve(size_t{8} << 20);
  EXPECT_EQ(arena.capacity(), held);
  EXPECT_THROW(arena.take(SIZE_MAX - 10), Error);
}

TEST(StreamTest, CopiesAndFillsOnTheCpu) {
  ThreadPool pool(1);
  Stream stream(Device{}, pool);
  EXPECT_EQ(stream.native(), nullptr);
  std::vector<int> from{1, 2, 3};
  std::vector<int> to(3);
  stream.copy(to.data(), from.data(), sizeof(int) * 3);
  EXPECT_EQ(to, from);
  stream.fill(to.data(), 0xff, sizeof(int) * 2);
  EXPECT_EQ(to, (std::vector<int>{-1, -1, 3}));
  stream.copy(nullptr, nullptr, 0);
  stream.make_current();
  stream.synchronize();
  EXPECT_FALSE(stream.is_capturing());
  std::byte* scratch = stream.scratch(1000);
  EXPECT_EQ(stream.scratch(10), scratch);
  Stream moved = std::move(stream);
  EXPECT_EQ(moved.scratch(10), scratch);
}

TEST(StreamTest, EventsOfACpuAreDone) {
  ThreadPool pool(1);
  const Stream stream(Device{}, pool);
  Event start(Device{}, Event::Timing::kOn);
  Event end(Device{}, Event::Timing::kOn);
  start.record(stream);
  end.record(stream);
  end.block(stream);
  end.synchronize();
  EXPECT_TRUE(end.is_done());
  EXPECT_GE(end.elapsed_ms(start), 0.0F);
}

TEST(GraphTest, NeedsAGpu) {
  ThreadPool pool(1);
  const Stream stream(Device{}, pool);
  EXPECT_EQ(error_of([&] { Graph::capture(stream, [] {}); }, ErrorKind::kUnsupported),
            "[graph] got a stream on cpu; need a GPU");
  const Graph graph;
  EXPECT_TRUE(graph.empty());
  EXPECT_THROW(graph.launch(stream), Error);
}

TEST(StagingTest, SendsTheStepsArrays) {
  ThreadPool pool(1);
  const Stream stream(Device{}, pool);
  StepUpload upload(Device{}, 1024);
  const int32_t* ids = nullptr;
  for (int32_t step = 0; step < 5; ++step) {
    upload.begin();
    const auto first = upload.add<int32_t>(10);
    const auto second = upload.add<float>(3);
    for (int32_t idx = 0; idx < 10; ++idx) first.host[static_cast<size_t>(idx)] = step * 100 + idx;
    second.host[2] = 0.5F;
    upload.send(stream);
    EXPECT_TRUE(step == 0 || first.device == ids);
    ids = first.device;
    EXPECT_EQ(ids[9], step * 100 + 9);
    EXPECT_EQ(second.device[2], 0.5F);
    EXPECT_EQ(upload.used(), 512U);
  }
  EXPECT_EQ(error_of([&] { upload.add<std::byte>(600); }, ErrorKind::kInternal),
            "[upload] got an array of 600 bytes after 512; need at most 1024 a step");
}

}  // namespace
}  // namespace foveal
