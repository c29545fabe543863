#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "foveal/error.h"
#include "kernels/cuda/indexer.h"

// What is settled before a GPU is asked: these run anywhere.

namespace foveal::kernels::cuda {
namespace {

using Prepare = foveal_indexer_prepare_params;
using Scores = foveal_indexer_scores_params;

// The addresses are never followed.
template <class T>
T* somewhere(uintptr_t address = 4096) {
  return reinterpret_cast<T*>(address);
}

template <class Params>
Params good() {
  Params p{};
  p.struct_size = sizeof(p);
  p.num_seqs = 2;
  p.num_rows = 100;
  p.num_heads = 64;
  p.head_dim = 128;
  p.q = somewhere<void>();
  p.weights = somewhere<float>();
  p.cu_q = p.kv_len = p.page_table = somewhere<int32_t>();
  p.page_table_stride = 16;
  p.keys = {.data = somewhere<void>(), .page_bytes = 64 * 132, .page_size = 64, .num_pages = 40};
  if constexpr (requires { p.k; }) {
    p.q_row_stride = 64 * 128;
    p.weights_row_stride = 64;
    p.k = somewhere<void>();
    p.k_row_stride = 128;
    p.q_out = somewhere<void>();
    p.weights_out = somewhere<float>();
  } else {
    p.max_kv_len = 1000;
    p.row_count = 100;
    p.scores = somewhere<float>();
    p.row_stride = 1000;
  }
  return p;
}

template <class Params>
std::string said(const std::function<void(Params&)>& spoil) {
  Params p = good<Params>();
  spoil(p);
  try {
    if constexpr (requires { p.k; }) {
      indexer_prepare_check(p);
    } else {
      indexer_scores_check(p);
    }
  } catch (const Error& error) {
    return error.what();
  }
  return "taken";
}

template <class Params>
void expect(const std::string& part, const std::function<void(Params&)>& spoil) {
  const std::string text = said<Params>(spoil);
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

template <class Params>
class IndexerCheck : public ::testing::Test {};
using Both = ::testing::Types<Prepare, Scores>;
TYPED_TEST_SUITE(IndexerCheck, Both);

TYPED_TEST(IndexerCheck, TakesWhatIsGood) {
  expect<TypeParam>("taken", [](auto&) {});
  expect<TypeParam>("taken", [](auto& p) {
    p.cu_q = nullptr;
    p.num_rows = 2;
    if constexpr (requires { p.row_count; }) p.row_count = 2;
  });
}

TYPED_TEST(IndexerCheck, RefusalsNameTheField) {
  using P = TypeParam;
  expect<P>("struct_size 8", [](P& p) { p.struct_size = 8; });
  expect<P>("num_seqs 0", [](P& p) { p.num_seqs = 0; });
  expect<P>("without cu_q", [](P& p) { p.cu_q = nullptr; });
  expect<P>("num_heads 4", [](P& p) { p.num_heads = 4; });
  expect<P>("num_heads 128", [](P& p) { p.num_heads = 128; });
  expect<P>("head_dim 96", [](P& p) { p.head_dim = 96; });
  expect<P>("kv_len", [](P& p) { p.kv_len = nullptr; });
  expect<P>("page_table at", [](P& p) { p.page_table = somewhere<int32_t>(4098); });
  expect<P>("cu_q at", [](P& p) { p.cu_q = somewhere<int32_t>(4097); });
  expect<P>("pages of 24", [](P& p) { p.keys.page_size = 24; });
  expect<P>("0 pages", [](P& p) { p.keys.num_pages = 0; });
  expect<P>("at least 8448", [](P& p) { p.keys.page_bytes = 8192; });
  expect<P>("page_bytes 8456", [](P& p) { p.keys.page_bytes = 8456; });
  expect<P>("page_table_stride -1", [](P& p) { p.page_table_stride = -1; });
  expect<P>("2^31", [](P& p) {
    p.num_rows = 1 << 26;
    if constexpr (requires { p.q_row_stride; }) p.q_row_stride = 64 * 128;
  });
}

TEST(IndexerPrepareCheck, RefusalsNameTheField) {
  expect<Prepare>("k_row_stride 100", [](auto& p) { p.k_row_stride = 100; });
  expect<Prepare>("q_row_stride 128", [](auto& p) { p.q_row_stride = 128; });
  expect<Prepare>("weights_row_stride 8", [](auto& p) { p.weights_row_stride = 8; });
  expect<Prepare>("q_out", [](auto& p) { p.q_out = nullptr; });
  expect<Prepare>("weights_out", [](auto& p) { p.weights_out = somewhere<float>(4100); });
  expect<Prepare>("taken", [](auto& p) {  // keys alone
    p.q = p.q_out = nullptr;
    p.weights = p.weights_out = nullptr;
  });
}

TEST(IndexerScoresCheck, RefusalsNameTheField) {
  expect<Scores>("first_position -1", [](auto& p) { p.first_position = -1; });
  expect<Scores>("rows 1 and 100 more", [](auto& p) { p.row_begin = 1; });
  expect<Scores>("max_kv_len 0", [](auto& p) { p.max_kv_len = 0; });
  expect<Scores>("page_table_stride 15", [](auto& p) { p.page_table_stride = 15; });
  expect<Scores>("row_stride 999", [](auto& p) { p.row_stride = 999; });
  expect<Scores>("scores at", [](auto& p) { p.scores = somewhere<float>(4098); });
  expect<Scores>("row_end at", [](auto& p) { p.row_end = somewhere<int32_t>(4098); });
  expect<Scores>("weights", [](auto& p) { p.weights = somewhere<float>(4100); });
}

TEST(IndexerEntries, AnswerWithAStatusAndASentence) {
  char message[200] = "untouched";
  Scores scores = good<Scores>();
  scores.num_heads = 5;
  EXPECT_EQ(foveal_indexer_scores(&scores, nullptr, message, sizeof(message)), FOVEAL_UNSUPPORTED);
  EXPECT_EQ(std::string(message), "[indexer_scores] got num_heads 5; need 8, 16, 32 or 64");
  EXPECT_EQ(foveal_indexer_prepare(nullptr, nullptr, message, sizeof(message)),
            FOVEAL_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace foveal::kernels::cuda
