#pragma once

#include <string_view>

namespace foveal::attention::skip_softmax {

/// Python's `fnmatch.fnmatchcase`: the whole of `name` against `pattern`, where `*` is any run
/// (dots too), `?` any byte, `[a-z]` and `[!a-z]` sets; there are no escapes. Bytes stand for
/// characters, which is the same as Python for ASCII names. Time is at most |name|^2 + |name| *
/// |pattern|.
bool glob_match(std::string_view pattern, std::string_view name);

}  // namespace foveal::attention::skip_softmax
