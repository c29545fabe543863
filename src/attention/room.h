#pragma once

#include <memory>
#include <string>
#include <vector>

#include "attention/method.h"
#include "foveal/config.h"

// What a room gives the registry: for a folder `foo`, its foo.h declares
//
//   std::unique_ptr<AttentionMethod> make_foo(const SparseAttentionConfig*, const MethodContext&);
//   std::vector<MethodExample> foo_examples();

namespace foveal::attention {

/// Makes a method. `config` is the user's object for this algorithm, or null when the user asked
/// for nothing; then a method answers null unless the checkpoint itself asks for it.
using MakeMethod = std::unique_ptr<AttentionMethod> (*)(const SparseAttentionConfig* config,
                                                        const MethodContext& context);

/// One setting that the contract suite (tests/contract) runs a method with. `config` is null for
/// methods that need none.
struct MethodExample {
  std::string name;
  std::shared_ptr<const SparseAttentionConfig> config;
  bool equals_dense = false;  ///< outputs must equal dense bit for bit
};

}  // namespace foveal::attention
