// Weights in e4m3 with scales: what their products read, and what is refused.
#include "model/fp8_weights.h"

#include <fmt/format.h>

#include <cmath>

#include "base/half.h"
#include "model/checkpoint.h"
#include "model/fp8_check.h"
#include "model/safetensors_writer.h"
#include "model/test_files.h"

namespace foveal::model {
namespace {

constexpr std::string_view kConfig =
    R"({"model_type":"llama","hidden_size":4,"intermediate_size":6,"num_hidden_layers":1,)"
    R"("num_attention_heads":2,"num_key_value_heads":1,"vocab_size":3,"eos_token_id":1)";

/// A folder with the matrix `a.weight` in e4m3, the values 1, 2, 3, ... 7 in turn, and what scales
/// it.
class Fp8Folder {
 public:
  /// `more`: further fields of the config's quantisation.
  Fp8Folder(int64_t rows, int64_t cols, std::string_view more) : rows_(rows), cols_(cols) {
    folder_.write("config.json", std::string(kConfig) +
                                     R"(,"quantization_config":{"quant_method":"fp8")" +
                                     std::string(more) + "}}");
    constexpr uint8_t kOneToSeven[] = {0x38, 0x40, 0x44, 0x48, 0x4a, 0x4c, 0x4e};
    values_.resize(static_cast<size_t>(rows_ * cols_));
    for (size_t idx = 0; idx < values_.size(); ++idx) values_[idx] = kOneToSeven[idx % 7];
  }
  void put(int64_t row, int64_t col, uint8_t value) {
    values_[static_cast<size_t>(row * cols_ + col)] = value;
  }
  void unquantised() const { folder_.write("config.json", std::string(kConfig) + "}"); }
  std::unique_ptr<Checkpoint> with(const std::string& scale_name, std::vector<int64_t> shape,
                                   const std::vector<float>& scales) const {
    return of({weight(), {scale_name, DType::kF32, std::move(shape), bytes(scales)}});
  }
  std::unique_ptr<Checkpoint> of(const std::vector<NamedTensor>& tensors) const {
    write_safetensors(folder_.path("model.safetensors"), tensors);
    return Checkpoint::open(folder_.path());
  }
  NamedTensor weight() const {
    return {"a.weight", DType::kF8E4M3, {rows_, cols_}, std::as_bytes(std::span(values_))};
  }
  static std::span<const std::byte> bytes(const std::vector<float>& values) {
    return std::as_bytes(std::span(values));
  }
  /// What a stored value became, over the value.
  float factor(const Checkpoint& checkpoint, int64_t row, int64_t col) const {
    const WeightView weight = checkpoint.matrix("a.weight", rows_, cols_);
    EXPECT_EQ(weight.dtype, DType::kBF16);
    uint16_t bits = 0;
    std::memcpy(&bits, weight.row(row) + col * 2, sizeof(bits));
    return bf16_to_float(bits) / static_cast<float>((row * cols_ + col) % 7 + 1);
  }

 private:
  TempFolder folder_;
  int64_t rows_, cols_;
  std::vector<uint8_t> values_;
};

TEST(Fp8Weights, AreExpandedByTheirScales) {
  Fp8Folder folder(5, 6, R"(,"weight_block_size":[2,4])");
  const auto blocks = folder.with("a.weight_scale_inv", {3, 2}, {1, 2, 4, 8, 16, 32});
  EXPECT_EQ(folder.factor(*blocks, 0, 3), 1);
  EXPECT_EQ(folder.factor(*blocks, 1, 4), 2);
  EXPECT_EQ(folder.factor(*blocks, 2, 0), 4);
  EXPECT_EQ(folder.factor(*blocks, 4, 5), 32);
  EXPECT_EQ(blocks->total_bytes(), 30 + 24);
  EXPECT_EQ(blocks->bytes_to_come(), 30 + 24 + 60);
  const auto rows = folder.with("a.weight_scale", {5, 1}, {1, 2, 4, 8, 0.5F});
  EXPECT_EQ(folder.factor(*rows, 3, 5), 8);
  EXPECT_EQ(folder.factor(*rows, 4, 0), 0.5F);
  const auto one = folder.with("a.weight_scale", {}, {0.25F});
  EXPECT_EQ(folder.factor(*one, 4, 5), 0.25F);
  EXPECT_EQ(one->matrix("a.weight", 5, 6).data, one->matrix("a.weight", 5, 6).data);
}

TEST(Fp8Weights, AreKeptBesideTheirScales) {
  Fp8Folder folder(5, 96, R"(,"weight_block_size":[2,64])");
  const auto kept = folder.with("a.weight_scale_inv", {3, 2}, {1, 2, 3, 4, 5, 0.3F});
  kept->keep_fp8();
  EXPECT_EQ(kept->bytes_to_come(), 5 * 96 + 24 + 5 * 108);
  const WeightView weight = kept->matrix("a.weight", 5, 96);
  ASSERT_EQ(weight.dtype, DType::kE4M3x32);
  const std::byte* group = weight.row(4) + 2 * 36;  // columns 64 to 95: the last block
  float scale = 0;
  std::memcpy(&scale, group, sizeof(scale));
  EXPECT_EQ(scale, 0.3F);
  constexpr uint8_t kOneToSeven[] = {0x38, 0x40, 0x44, 0x48, 0x4a, 0x4c, 0x4e};
  EXPECT_EQ(static_cast<uint8_t>(group[4]), kOneToSeven[(4 * 96 + 64) % 7]);
  Fp8Folder odd(5, 6, R"(,"weight_block_size":[2,4])");
  const auto wide = odd.with("a.weight_scale_inv", {3, 2}, {1, 2, 3, 4, 5, 0.3F});
  wide->keep_fp8();
  EXPECT_EQ(wide->matrix("a.weight", 5, 6).dtype, DType::kF32);
}

TEST(Fp8Weights, AreGivenAsTheyAreStored) {
  Fp8Folder folder(5, 96, R"(,"weight_block_size":[2,64])");
  const auto opened = folder.with("a.weight_scale_inv", {3, 2}, {1, 2, 3, 4, 5, 0.3F});
  EXPECT_TRUE(opened->config().fp8_weights);
  const std::optional<Fp8Matrix> matrix = opened->fp8_matrix("a.weight");
  ASSERT_TRUE(matrix.has_value());
  EXPECT_EQ(matrix->weight.data, opened->find("a.weight")->data);
  EXPECT_EQ(matrix->weight.row_bytes, 96);
  EXPECT_EQ(matrix->scales.rows, 2);
  EXPECT_EQ(matrix->scales.cols, 64);
  EXPECT_EQ(matrix->scales.values, (std::vector<float>{1, 2, 3, 4, 5, 0.3F}));
  EXPECT_FALSE(opened->fp8_matrix("a.weight_scale_inv").has_value());
  const std::optional<Fp8Matrix> layout = opened->fp8_layout("a.weight");
  ASSERT_TRUE(layout.has_value());
  EXPECT_EQ(layout->scales.cols, 64);
  EXPECT_TRUE(layout->scales.values.empty());
}

TEST(Fp8Weights, RefusesMatricesWithoutTheirScales) {
  const Fp8Folder folder(5, 6, "");
  const auto kind = ErrorKind::kCorruptFile;
  expect_error(kind, "without a scale; need 'a.weight_scale_inv' or 'a.weight_scale'",
               [&] { folder.of({folder.weight()}); });
  expect_error(kind, "as [2, 3]; need one, [5], [5, 1] or [1, 1]",
               [&] { folder.with("a.weight_scale", {2, 3}, {1, 1, 1, 1, 1, 1}); });
  const int32_t one = 1;
  const NamedTensor whole{"a.weight_scale", DType::kI32, {1}, std::as_bytes(std::span(&one, 1))};
  expect_error(ErrorKind::kUnsupported, "got the scale of 'a.weight' as i32; need f32",
               [&] { folder.of({folder.weight(), whole}); });
}

TEST(Fp8Weights, RefusesScalesThatNoQuantisationMakes) {
  Fp8Folder folder(5, 6, "");
  for (const float odd : {-1.0F, 0.0F, -0.0F, 1e-40F, 65537.0F, 1e30F, INFINITY, NAN}) {
    const auto opened = folder.with("a.weight_scale", {5}, {1, 1, odd, 1, 1});
    const std::string text =
        fmt::format("got {} in the scale of 'a.weight'; need numbers from 1.18e-38 to 65536", odd);
    expect_error(ErrorKind::kCorruptFile, text, [&] { opened->matrix("a.weight", 5, 6); });
    expect_error(ErrorKind::kCorruptFile, text, [&] { opened->fp8_matrix("a.weight"); });
  }
  const auto far = folder.with("a.weight_scale", {5}, {65536, 1.2e-38F, 1, 1, 1});
  EXPECT_EQ(folder.factor(*far, 0, 0), 65536);
}

// 448, the largest number, is one bit away.
TEST(Fp8Weights, RefusesNan) {
  for (const uint8_t sign : {0x00, 0x80}) {
    for (const int64_t col : {0, 7, 8, 94, 95}) {
      Fp8Folder folder(5, 96, "");
      folder.put(3, col, sign | 0x7e);
      folder.with("a.weight_scale", {1}, {1})->matrix("a.weight", 5, 96);
      folder.put(3, col, sign | 0x7f);
      folder.put(4, 1, 0x7f);
      const auto opened = folder.with("a.weight_scale", {1}, {1});
      expect_error(ErrorKind::kCorruptFile, fmt::format("got a NaN at [3, {}] of 'a.weight'", col),
                   [&] { opened->matrix("a.weight", 5, 96); });
      expect_error(ErrorKind::kCorruptFile, "got a NaN",
                   [&] { opened->matrix("a.weight", 5, 96); });
    }
  }
}

TEST(Fp8Weights, NanIsFoundWhereverItLies) {
  std::vector<std::byte> values(41);
  for (int value = 0; value < 256; ++value) {
    std::fill(values.begin(), values.end(), std::byte(value));
    EXPECT_EQ(has_e4m3_nan(values.data(), 41), (value & 0x7f) == 0x7f) << value;
  }
  std::fill(values.begin(), values.end(), std::byte{0xfe});
  for (size_t at = 0; at < values.size(); ++at) {
    values[at] = std::byte{0xff};
    EXPECT_TRUE(has_e4m3_nan(values.data(), 41)) << at;
    EXPECT_FALSE(has_e4m3_nan(values.data(), static_cast<int64_t>(at))) << at;
    values[at] = std::byte{0xfe};
  }
}

TEST(Fp8Weights, RefusesFilesThatContradictThemselves) {
  const Fp8Folder folder(5, 6, "");
  const auto refuse = [&](std::string_view part, const std::vector<NamedTensor>& tensors) {
    expect_error(ErrorKind::kCorruptFile, part, [&] { folder.of(tensors); });
  };
  const std::vector<float> ones(30, 1.0F);
  const NamedTensor one{"a.weight_scale_inv", DType::kF32, {}, folder.bytes(ones).first(4)};
  NamedTensor other = one;
  other.name = "a.weight_scale";
  refuse("got 'a.weight_scale_inv' and 'a.weight_scale'; need one of them",
         {folder.weight(), one, other});
  other.name = "b.weight_scale";
  refuse("got scale 'b.weight_scale' and no 'b.weight'", {folder.weight(), one, other});
  const NamedTensor wide{"b.weight", DType::kF32, {5, 6}, folder.bytes(ones)};
  refuse("got 'b.weight' as f32 with a scale 'b.weight_scale'; need it as f8_e4m3",
         {folder.weight(), one, wide, other});
  other.name = "b.input_scale";  // of activations
  EXPECT_NE(folder.of({folder.weight(), one, wide, other}), nullptr);
}

// Plain weights beside others in e4m3 are what a list of exceptions is for.
TEST(Fp8Weights, RefusesModulesThatTheConfigLeavesOut) {
  const std::vector<float> ones(30, 1.0F);
  const auto with = [&](const std::string& fields) {
    const Fp8Folder folder(5, 6, fields);
    NamedTensor weight = folder.weight();
    weight.name = "model.layers.0.mlp.up_proj.weight";
    folder.of({weight,
               {weight.name + "_scale", DType::kF32, {}, folder.bytes(ones).first(4)},
               {"lm_head.weight", DType::kF32, {5, 6}, folder.bytes(ones)}});
  };
  for (const std::string listed : {"model.layers.0.mlp.up_proj", "model.layers.0", "up_proj", "mlp",
                                   "model.language_model.layers.0.mlp"}) {
    for (const char* field : {"modules_to_not_convert", "ignored_layers", "ignore"}) {
      expect_error(
          ErrorKind::kCorruptFile, "'model.layers.0.mlp.up_proj.weight' as f8_e4m3 and '",
          [&] { with(",\"" + std::string(field) + R"(":["lm_head",")" + listed + "\"]"); });
    }
  }
  with(
      R"(,"modules_to_not_convert":["lm_head","proj","layers.0.mlp.up","re:.*up_proj","*up*",""])");
  with(R"(,"modules_to_not_convert":null)");
}

// ModelOpt says it in another file; what a scale's shape says is enough.
TEST(Fp8Weights, TheConfigMayBeSilent) {
  Fp8Folder folder(5, 6, "");
  folder.unquantised();
  const auto opened = folder.with("a.weight_scale", {5}, {1, 2, 4, 8, 16});
  EXPECT_TRUE(opened->config().fp8_weights);
  EXPECT_EQ(folder.factor(*opened, 3, 5), 8);
}

TEST(Fp8Weights, RefusesMatricesWithoutElements) {
  Fp8Folder folder(0, 6, "");
  const auto none = folder.with("a.weight_scale", {1}, {1});
  expect_error(ErrorKind::kCorruptFile, "[0, 6]", [&] { none->matrix("a.weight", 5, 6); });
}

}  // namespace
}  // namespace foveal::model
