#include <algorithm>

#include "base/check.h"
#include "tokenizer/tokenizer.h"

namespace foveal::tokenizer {
namespace {

struct Hit {
  size_t begin = std::string::npos;
  size_t end = std::string::npos;
};

/// The stop that is completed first; of several that end there, the longest. So the result does not
/// depend on how the text was cut into pieces.
Hit first_hit(std::string_view text, const std::vector<std::string>& stops) {
  Hit best;
  for (const std::string& stop : stops) {
    const size_t begin = text.find(stop);
    if (begin == std::string::npos) continue;
    const size_t end = begin + stop.size();
    if (end < best.end || (end == best.end && begin < best.begin)) best = {begin, end};
  }
  return best;
}

/// Length of the longest suffix of `text` that begins a stop without completing it.
size_t held_length(std::string_view text, const std::vector<std::string>& stops) {
  size_t longest = 0;
  for (const std::string& stop : stops) {
    for (size_t length = std::min(text.size(), stop.size() - 1); length > longest; --length) {
      if (text.ends_with(std::string_view(stop).substr(0, length))) longest = length;
    }
  }
  return longest;
}

}  // namespace

StopMatcher::StopMatcher(std::vector<std::string> stops, bool include_stop)
    : stops_(std::move(stops)), include_stop_(include_stop) {
  for (const std::string& stop : stops_) {
    FOVEAL_CHECK(!stop.empty(), ErrorKind::kInvalidArgument, "stop",
                 "got an empty stop string; need at least one character");
  }
}

StopMatcher::Result StopMatcher::push(std::string_view piece) {
  if (stopped_) return {"", true};
  held_ += piece;
  Result result;
  const Hit hit = first_hit(held_, stops_);
  if (hit.end != std::string::npos) {
    result = {held_.substr(0, include_stop_ ? hit.end : hit.begin), true,
              held_.substr(hit.begin, hit.end - hit.begin)};
    held_.clear();
    stopped_ = true;
    return result;
  }
  const size_t keep = held_length(held_, stops_);
  result.text = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return result;
}

std::string StopMatcher::flush() {
  std::string text = std::move(held_);
  held_.clear();
  return text;
}

}  // namespace foveal::tokenizer
