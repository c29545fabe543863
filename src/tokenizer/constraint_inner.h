#pragma once

#include "tokenizer/bridge.h"
#include "tokenizer/constraint.h"

namespace foveal::tokenizer {

/// Apart, so that users of constraint.h do not need the bridge's header.
struct Constraint::Inner {
  rust::Box<text::Constraint> box;
  int32_t vocab_size;
};

}  // namespace foveal::tokenizer
