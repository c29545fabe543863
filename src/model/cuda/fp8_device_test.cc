#include "model/cuda/fp8_device.h"

#include <gtest/gtest.h>

#include "base/math.h"
#include "model/table_checkpoint.h"

namespace foveal::model {
namespace {

/// Matrices by their shapes, and the rows and columns that share a scale.
class Shapes : public TableCheckpoint {
 public:
  Shapes() {
    config_.fp8_weights = true;
    config_.num_layers = 2;
  }
  void bf16(const std::string& name) { tensors_[name] = {.dtype = DType::kBF16, .shape = {8, 8}}; }
  void add(const std::string& name, int64_t rows, int64_t cols, int64_t block_rows = 128,
           int64_t block_cols = 128) {
    tensors_[name] = {.dtype = DType::kF8E4M3, .shape = {rows, cols}};
    Fp8Scales scales{.rows = block_rows, .cols = std::min(cols, block_cols)};
    scales.per_row = ceil_div(cols, scales.cols);
    matrices_[name] = {.weight = {.dtype = DType::kF8E4M3, .rows = rows, .cols = cols},
                       .scales = std::move(scales)};
  }
  void add_expert(int layer, int expert, int64_t width, int64_t hidden) {
    const std::string prefix = expert_prefix(layer, expert);
    add(prefix + "gate_proj.weight", width, hidden);
    add(prefix + "up_proj.weight", width, hidden);
    add(prefix + "down_proj.weight", hidden, width);
  }
  static std::string expert_prefix(int layer, int expert) {
    return "model.layers." + std::to_string(layer) + ".mlp.experts." + std::to_string(expert) + ".";
  }

  mutable int read = 0;  ///< matrices with their scales

  std::string format() const override { return "shapes"; }
  std::optional<Fp8Matrix> fp8_matrix(std::string_view name) const override {
    ++read;
    return fp8_layout(name);
  }
  std::optional<Fp8Matrix> fp8_layout(std::string_view name) const override {
    const auto found = matrices_.find(name);
    return found == matrices_.end() ? std::nullopt : std::optional(found->second);
  }

 private:
  std::map<std::string, Fp8Matrix, std::less<>> matrices_;
};

constexpr int64_t kAll = int64_t{1} << 30;

TEST(Fp8OnDevice, KeepsWhatProductsRead) {
  Shapes shapes;
  shapes.add("model.layers.0.self_attn.o_proj.weight", 192, 256);
  shapes.add("model.layers.0.self_attn.kv_a_proj_with_mqa.weight", 576, 192);
  shapes.add("model.layers.0.mlp.down_proj.weight", 200, 48);
  shapes.add("model.layers.0.mlp.up_proj.weight", 100, 208, 1, kAll);
  shapes.add("model.layers.0.mlp.gate_proj.weight", 100, 208, kAll, kAll);
  const Fp8OnDevice fp8(shapes);
  EXPECT_EQ(shapes.read, 0);
  EXPECT_EQ(fp8.kept().size(), 5U);
  EXPECT_TRUE(fp8.summary().empty());
  EXPECT_TRUE(fp8.stored("model.layers.0.self_attn.o_proj.weight")->by_block());
  EXPECT_FALSE(fp8.stored("model.layers.0.mlp.up_proj.weight")->by_block());
  EXPECT_FALSE(fp8.stored("model.layers.0.mlp.none.weight").has_value());
}

TEST(Fp8OnDevice, SaysWhyTheOthersAreExpanded) {
  Shapes shapes;
  shapes.add("lm_head.weight", 512, 256);
  shapes.add("model.layers.0.self_attn.kv_b_proj.weight", 256, 512);
  shapes.add("model.layers.1.self_attn.kv_b_proj.weight", 256, 512);
  shapes.add("model.layers.0.self_attn.q_proj.weight", 256, 264);
  shapes.add("model.layers.0.self_attn.k_proj.weight", 256, 256, 64, 64);
  shapes.bf16("model.layers.0.self_attn.v_proj.weight");
  const Fp8OnDevice fp8(shapes);
  EXPECT_TRUE(fp8.kept().empty());
  EXPECT_EQ(fp8.expanded().size(), 5U);
  EXPECT_EQ(fp8.expanded().at("model.layers.0.self_attn.q_proj.weight"),
            "rows of 264 values, no multiple of 16");
  EXPECT_EQ(fp8.expanded().at("model.layers.0.self_attn.k_proj.weight"),
            "scales of 64 x 64 values, not of 128 x 128");
  EXPECT_NE(fp8.summary().find("1 (lm_head.weight): embeddings"), std::string::npos);
  EXPECT_NE(fp8.summary().find("2 (model.layers.0.self_attn.kv_b_proj.weight, ...): latent"),
            std::string::npos);
}

TEST(Fp8OnDevice, ALayersExpertsAreKeptAllOrNone) {
  Shapes whole;
  for (int expert = 0; expert < 3; ++expert) whole.add_expert(0, expert, 256, 384);
  for (int expert = 0; expert < 3; ++expert) whole.add_expert(1, expert, 160, 384);
  const Fp8OnDevice fp8(whole);
  EXPECT_EQ(fp8.kept().size(), 9U);
  EXPECT_EQ(fp8.expanded().size(), 9U);
  EXPECT_EQ(fp8.expanded().at(Shapes::expert_prefix(1, 2) + "down_proj.weight"),
            "experts of 160 rows, no multiple of 128");

  whole.add(Shapes::expert_prefix(0, 2) + "up_proj.weight", 256, 384, 1, kAll);
  EXPECT_EQ(Fp8OnDevice(whole).expanded().at(Shapes::expert_prefix(0, 0) + "down_proj.weight"),
            "experts with scales of different kinds");
  whole.bf16(Shapes::expert_prefix(0, 3) + "up_proj.weight");
  EXPECT_EQ(Fp8OnDevice(whole).expanded().at(Shapes::expert_prefix(0, 0) + "down_proj.weight"),
            "experts of different types");
}

// What predicts further tokens is never loaded: it takes no memory, and saves none.
TEST(Fp8OnDevice, LeavesOutLayersPastTheLast) {
  Shapes shapes;
  shapes.add("model.layers.2.self_attn.o_proj.weight", 256, 256);
  shapes.add("model.layers.2.self_attn.kv_b_proj.weight", 256, 256);
  const Fp8OnDevice fp8(shapes);
  EXPECT_TRUE(fp8.kept().empty());
  EXPECT_TRUE(fp8.expanded().empty());
}

}  // namespace
}  // namespace foveal::model
