#include "measure/failures.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"

namespace foveal::measure {

void warn_of(std::span<const Failure> failures, std::string_view place) {
  constexpr size_t kMost = 5;
  for (const Failure& failure : failures.first(std::min(failures.size(), kMost))) {
    // What goes wrong with a line of a file names it already.
    if (failure.error.starts_with(fmt::format("[{}]", failure.id))) {
      log_warn("{}", failure.error);
    } else {
      log_warn("{}: {}", failure.id, failure.error);
    }
  }
  if (failures.size() > kMost) {
    log_warn("{} more have failed; {} lists all {}", failures.size() - kMost, place,
             failures.size());
  }
}

}  // namespace foveal::measure
