#include "engine/graph_sizes.h"

#include <gtest/gtest.h>

namespace foveal::engine {
namespace {

using Sizes = std::vector<int32_t>;

TEST(GraphSizes, CoverEveryBatch) {
  EXPECT_EQ(graph_sizes({}, 1), (Sizes{1}));
  EXPECT_EQ(graph_sizes({}, 3), (Sizes{1, 2, 3}));
  EXPECT_EQ(graph_sizes({}, 20), (Sizes{1, 2, 4, 8, 16, 20}));
  EXPECT_EQ(graph_sizes({.max_batch_size = 8}, 64), (Sizes{1, 2, 4, 8}));
  EXPECT_EQ(graph_sizes({.max_batch_size = 100}, 8), (Sizes{1, 2, 4, 8}));
}

TEST(GraphSizes, AreTheConfigsWhereItNamesSome) {
  EXPECT_EQ(graph_sizes({.batch_sizes = {16, 2, 2, 128}}, 64), (Sizes{2, 16}));
}

TEST(GraphSizes, PaddingTakesTheNextOne) {
  const Sizes sizes{1, 2, 4, 8};
  EXPECT_EQ(choose_graph_size(sizes, 3, /*padding=*/true), 4);
  EXPECT_EQ(choose_graph_size(sizes, 4, /*padding=*/false), 4);
  EXPECT_EQ(choose_graph_size(sizes, 3, /*padding=*/false), std::nullopt);
  EXPECT_EQ(choose_graph_size(sizes, 9, /*padding=*/true), std::nullopt);
  EXPECT_EQ(choose_graph_size({}, 1, /*padding=*/true), std::nullopt);
}

TEST(GraphSizes, TablesGrowInPowersOfTwo) {
  EXPECT_EQ(graph_table_stride(1, 100), 1);
  EXPECT_EQ(graph_table_stride(3, 100), 4);
  EXPECT_EQ(graph_table_stride(65, 100), 100);
  EXPECT_EQ(graph_table_stride(100, 100), 100);
}

}  // namespace
}  // namespace foveal::engine
