#pragma once

#include <span>
#include <string>
#include <string_view>

namespace foveal::measure {

/// A sample, a request or a line of a file that could not be run.
struct Failure {
  std::string id;
  std::string error;
};

/// Warns of the first few and says how many more there are, and in `place` where all are: a file
/// that is none of what it should be has as many as lines.
void warn_of(std::span<const Failure> failures, std::string_view place);

}  // namespace foveal::measure
