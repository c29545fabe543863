#include "model/cuda/memory_plan.h"

#include <gtest/gtest.h>

#include "model/cuda/scratch.h"
#include "model/dummy_checkpoint.h"

namespace foveal::model {
namespace {

std::unique_ptr<Checkpoint> shape_of(const char* name) {
  return open_dummy_checkpoint(std::string(FOVEAL_SOURCE_DIR "/bench/configs/") + name, {},
                               DummyData::kDevice);
}

const ModelLimits kLimits{.max_positions = 4096, .max_rows = 8192, .max_logit_rows = 64};

// Norms and biases are what the plan leaves to its reserve.
TEST(MemoryPlan, CountsEveryMatrix) {
  for (const char* name : {"Llama-3.1-8B", "Qwen3-30B-A3B", "Qwen2.5-0.5B", "DeepSeek-V3.2"}) {
    const auto checkpoint = shape_of(name);
    const MemoryPlan plan = plan_cuda_memory(*checkpoint, kLimits);
    const int64_t rope = kLimits.max_positions * checkpoint->config().rotary_dim * 4;
    int64_t matrices = plan.weights_bytes - rope;
    if (const auto& latent = checkpoint->config().latent) {  // what makes keys is there both ways
      matrices -= int64_t{checkpoint->config().num_layers} * checkpoint->config().num_heads *
                  latent->nope_dim * latent->kv_rank * 2;
    }
    EXPECT_LE(matrices, checkpoint->total_bytes()) << name;
    EXPECT_GE(matrices, checkpoint->total_bytes() - (4 << 20)) << name;
  }
}

// A byte a value but for embeddings, output, router and what latent attention absorbs; and scales.
TEST(MemoryPlan, CountsWeightsInE4m3AsTheyAreStored) {
  for (const char* name : {"Llama-3.1-8B-FP8", "DeepSeek-V3.2-FP8"}) {
    const auto checkpoint = shape_of(name);
    const ModelConfig& config = checkpoint->config();
    EXPECT_TRUE(config.fp8_weights);
    const MemoryPlan plan = plan_cuda_memory(*checkpoint, kLimits);
    int64_t matrices = plan.weights_bytes - kLimits.max_positions * config.rotary_dim * 4;
    if (config.latent) {  // on the device in bf16
      matrices -= int64_t{config.num_layers} * config.num_heads *
                  (config.latent->nope_dim + config.latent->value_dim) * config.latent->kv_rank;
    }
    EXPECT_GE(matrices, checkpoint->total_bytes() - (8 << 20)) << name;
    EXPECT_LE(matrices, checkpoint->total_bytes() / 1000 * 1005) << name;
  }
}

// So that a prompt of any length finds room when the pages have taken the rest.
TEST(MemoryPlan, AnE4m3CacheCountsWhatPrefillExpandsItInto) {
  const auto checkpoint = shape_of("Llama-3.1-8B");
  ModelLimits limits = kLimits;
  limits.max_logit_rows = 1;
  const auto workspace = [&] { return plan_cuda_memory(*checkpoint, limits).workspace_bytes; };
  const int64_t without = workspace();
  limits.kv_dtype = DType::kF8E4M3;
  EXPECT_EQ(workspace() - without, (512 + int64_t{4096} * 8 * 128 * 2 * 2) / 4 * 5);
  limits.max_positions = 131072;
  const int64_t longer = workspace();
  limits.e4m3_prefill = true;  // half as wide, and queries
  const int64_t in_e4m3 = workspace();
  limits = {.max_positions = 131072, .max_rows = 8192, .max_logit_rows = 1};
  EXPECT_EQ(longer - workspace(), (512 + (int64_t{512} << 20)) / 4 * 5);
  EXPECT_EQ(in_e4m3 - workspace(),
            (512 + int64_t{131072} * 8 * 128 * 2) / 4 * 5 + int64_t{8192} * 32 * 128);
}

// Where the batch chooses nothing, latents keep their form.
TEST(MemoryPlan, LatentsAsHeadsTakeABoundedPiece) {
  const auto checkpoint = shape_of("DeepSeek-V3.2");
  ModelLimits limits = kLimits;
  const auto workspace = [&] { return plan_cuda_memory(*checkpoint, limits).workspace_bytes; };
  const auto context = [&] { return limits.max_positions * 576 * 2; };
  for (const int64_t positions : {4096, 131072}) {
    limits = kLimits;
    limits.max_positions = positions;
    const int64_t with = workspace();
    limits.batch_invariant = true;
    const int64_t more = with - workspace();
    const int64_t all = positions * 128 * 256 * 2;
    const int64_t heads = std::min(all, int64_t{512} << 20);
    EXPECT_GE(more, context() + heads);
    EXPECT_LE(more, context() + heads + 4096);
  }
}

TEST(Scratch, PiecesDoNotOverlap) {
  const auto checkpoint = shape_of("Qwen3-30B-A3B");
  const ModelConfig& config = checkpoint->config();
  const size_t bytes = lay_out_scratch(config, kLimits, nullptr).bytes;
  auto* base = reinterpret_cast<std::byte*>(uintptr_t{1} << 30);
  const DecoderScratch scratch = lay_out_scratch(config, kLimits, base);
  EXPECT_EQ(scratch.bytes, bytes);
  EXPECT_EQ(reinterpret_cast<std::byte*>(scratch.hidden), base);
  const auto end = reinterpret_cast<std::byte*>(scratch.logits) +
                   kLimits.max_logit_rows * logits_stride(config) * 4;
  EXPECT_LE(end, base + bytes);
  EXPECT_GE(reinterpret_cast<std::byte*>(scratch.normed),
            reinterpret_cast<std::byte*>(scratch.hidden + kLimits.max_rows * config.hidden_size));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(scratch.logits) % 256, 0U);
  EXPECT_EQ(logits_stride(config) % 4, 0);
}

TEST(Scratch, LeavesOutWhatAModelHasNot) {
  const auto checkpoint = shape_of("Qwen2.5-0.5B");
  auto* base = reinterpret_cast<std::byte*>(uintptr_t{1} << 30);
  EXPECT_EQ(lay_out_scratch(checkpoint->config(), kLimits, base).router, nullptr);
}

}  // namespace
}  // namespace foveal::model
