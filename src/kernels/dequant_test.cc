#include <fstream>

#include "kernels/elementwise.h"
#include "kernels/gemm_fixture.h"
#include "kernels/reference/dequant.h"

namespace foveal::kernels {
namespace {

struct Vector {
  std::vector<char> bytes;
  std::vector<float> values;
};

/// testdata/gguf_dequant.bin, written by scripts of the Python package `gguf` 0.17
/// (gguf.quants.dequantize) over random bytes with finite halves, the first block's subnormal: for
/// each dtype of kOrder the number of bytes and of values (u32), the bytes, the values (f32).
constexpr DType kOrder[] = {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                            DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

std::vector<Vector> read_vectors() {
  std::ifstream file(FOVEAL_SOURCE_DIR "/src/kernels/testdata/gguf_dequant.bin", std::ios::binary);
  std::vector<Vector> out;
  uint32_t sizes[2];
  while (file.read(reinterpret_cast<char*>(sizes), sizeof(sizes))) {
    Vector& vector = out.emplace_back();
    vector.bytes.resize(sizes[0]);
    vector.values.resize(sizes[1]);
    file.read(vector.bytes.data(), sizes[0]);
    file.read(reinterpret_cast<char*>(vector.values.data()), sizes[1] * 4L);
  }
  return out;
}

TEST(Dequant, EqualsTheGgufPackageBitForBit) {
  const std::vector<Vector> vectors = read_vectors();
  ASSERT_EQ(vectors.size(), std::size(kOrder));
  testing::for_each_isa([&](cpu::Isa) {
    for (size_t idx = 0; idx < vectors.size(); ++idx) {
      const Vector& vector = vectors[idx];
      const auto cols = static_cast<int64_t>(vector.values.size());
      const WeightView weight{reinterpret_cast<const std::byte*>(vector.bytes.data()), kOrder[idx],
                              1, cols, static_cast<int64_t>(vector.bytes.size())};
      ASSERT_EQ(row_bytes(kOrder[idx], cols), weight.row_bytes);
      std::vector<float> got(vector.values.size());
      dequantize_row(weight, 0, got.data());
      const std::vector<float> slow = reference::dequantize_row(weight, 0);
      for (size_t k = 0; k < got.size(); ++k) {
        ASSERT_EQ(std::bit_cast<uint32_t>(got[k]), std::bit_cast<uint32_t>(vector.values[k]))
            << dtype_name(kOrder[idx]) << " element " << k << ": " << got[k];
        ASSERT_EQ(std::bit_cast<uint32_t>(slow[k]), std::bit_cast<uint32_t>(vector.values[k]));
      }
    }
  });
}

TEST(Dequant, EveryLevelEqualsTheReference) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 rng(seed);
  testing::for_each_isa([&](cpu::Isa) {
    for (const DType dtype : testing::weight_dtypes()) {
      const int64_t cols = dtype_info(dtype).block == 1 ? 77 : 768;
      const testing::StoredWeight weight(dtype, 5, cols, rng);
      std::vector<float> got(static_cast<size_t>(cols));
      for (int64_t row = 0; row < 5; ++row) {
        dequantize_row(weight.view, row, got.data());
        const std::vector<float> want = reference::dequantize_row(weight.view, row);
        ASSERT_EQ(std::memcmp(got.data(), want.data(), got.size() * 4), 0) << dtype_name(dtype);
      }
    }
  });
}

TEST(Dequant, RefusesRowsThatDoNotExist) {
  std::mt19937 rng(1);
  const testing::StoredWeight weight(DType::kQ8_0, 2, 32, rng);
  float out[32];
  EXPECT_THROW(dequantize_row(weight.view, 2, out), Error);
  EXPECT_THROW(dequantize_row(weight.view, -1, out), Error);
}

}  // namespace
}  // namespace foveal::kernels
