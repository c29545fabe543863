#include "eval/haystack.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <span>

#include "base/check.h"
#include "input.h"
#include "measure/documents.h"

namespace foveal::eval {
namespace {

using measure::Random;
using Words = std::span<const std::string_view>;

constexpr std::array<std::string_view, 24> kPeople{
    "the baker",       "a young teacher", "the old sailor",        "my neighbour",
    "the gardener",    "a quiet clerk",   "the painter",           "her cousin",
    "the night guard", "a tall stranger", "the librarian",         "the apprentice",
    "his aunt",        "the carpenter",   "a travelling musician", "the miller",
    "the postman",     "a tired nurse",   "the innkeeper",         "the watchmaker",
    "the surveyor",    "a patient coach", "the shepherd",          "the captain"};
constexpr std::array<std::string_view, 24> kDeeds{
    "carried",  "repaired", "painted",   "counted",  "borrowed", "forgot",   "polished", "weighed",
    "measured", "sold",     "described", "returned", "admired",  "mended",   "sorted",   "wrapped",
    "sketched", "cleaned",  "examined",  "packed",   "labelled", "unfolded", "stacked",  "dusted"};
constexpr std::array<std::string_view, 24> kThings{
    "a wooden ladder",   "the copper kettle", "two baskets of pears", "the church bell",
    "a bundle of maps",  "the garden gate",   "a box of buttons",     "the long table",
    "an iron lantern",   "the blue curtains", "a sack of flour",      "the broken oar",
    "a pair of gloves",  "the kitchen clock", "a jar of honey",       "the narrow bridge",
    "some dried leaves", "the harbour wall",  "a woollen blanket",    "the school bench",
    "a clay jug",        "the market stalls", "an empty notebook",    "the weather vane"};
constexpr std::array<std::string_view, 24> kTimes{
    "before breakfast",      "on a rainy afternoon",     "after the concert",
    "while the snow melted", "late in the evening",      "during the harvest",
    "as the ferry left",     "in the first week of May", "between two storms",
    "without any hurry",     "for the third time",       "near the railway station",
    "behind the town hall",  "beside the river",         "under the chestnut trees",
    "with great care",       "in the cold workshop",     "at the end of the road",
    "while children played", "when the lamps were lit",  "on the way to the mill",
    "in spite of the wind",  "to everyone's surprise",   "as quietly as possible"};
constexpr std::array<std::string_view, 32> kAdjectives{
    "amber", "brisk",  "calm",   "dusty",  "eager",  "faint",  "gentle", "hollow",
    "icy",   "jolly",  "keen",   "lively", "mellow", "narrow", "odd",    "plain",
    "quick", "rusty",  "silent", "tidy",   "upbeat", "velvet", "wild",   "young",
    "zesty", "bitter", "clever", "dense",  "frosty", "grumpy", "humble", "misty"};
constexpr std::array<std::string_view, 32> kNouns{
    "anchor", "beacon", "candle", "dragon", "engine", "falcon", "garden", "hammer",
    "island", "jacket", "kernel", "ladder", "magnet", "needle", "orchid", "pebble",
    "quarry", "ribbon", "saddle", "tunnel", "urchin", "violin", "walnut", "yogurt",
    "zephyr", "basket", "comet",  "dagger", "ferry",  "goblet", "helmet", "meadow"};

std::string generated(Random& random) {
  std::string_view who = random.pick(Words(kPeople));
  const std::string_view deed = random.pick(Words(kDeeds));
  const std::string_view what = random.pick(Words(kThings));
  const std::string_view when = random.pick(Words(kTimes));
  std::string out;
  switch (random.below(3)) {
    case 0:
      out = fmt::format("{} {} {} {}.", who, deed, what, when);
      break;
    case 1:
      out = fmt::format("{}, {} {} {}.", when, who, deed, what);
      break;
    default:
      out = fmt::format("{} {} {}, and {} {} {} {}.", who, deed, what, random.pick(Words(kPeople)),
                        random.pick(Words(kDeeds)), random.pick(Words(kThings)), when);
  }
  out[0] = static_cast<char>(out[0] - 'a' + 'A');
  return out;
}

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// At ". ", "? " and "! ", blanks made one space.
void split_sentences(std::string_view text, std::vector<std::string>& out) {
  std::string sentence;
  for (size_t at = 0; at < text.size(); ++at) {
    if (!is_space(text[at])) {
      sentence += text[at];
      continue;
    }
    if (sentence.empty() || sentence.back() == ' ') continue;
    const char last = sentence.back();
    if (last == '.' || last == '?' || last == '!') {
      out.push_back(std::move(sentence));
      sentence.clear();
    } else {
      sentence += ' ';
    }
  }
  if (!sentence.empty()) out.push_back(std::move(sentence));
}

}  // namespace

Haystack::Haystack(const std::string& path) {
  for (const measure::Document& document : measure::read_documents(path, "haystack")) {
    check_document(document);
    FOVEAL_CHECK(!document.ids, ErrorKind::kInvalidArgument, "haystack",
                 "got token ids in '{}'; need texts", document.id);
    split_sentences(document.text, sentences_);
  }
  FOVEAL_CHECK(!sentences_.empty(), ErrorKind::kInvalidArgument, "haystack",
               "got '{}' without a sentence; need a text", path);
}

std::vector<std::string> Haystack::take(Random& random, size_t count) const {
  std::vector<std::string> out;
  out.reserve(count);
  const size_t start = sentences_.empty() ? 0 : random.below(sentences_.size());
  for (size_t idx = 0; idx < count; ++idx) {
    out.push_back(sentences_.empty() ? generated(random)
                                     : sentences_[(start + idx) % sentences_.size()]);
  }
  return out;
}

std::string random_key(Random& random, const std::vector<std::string>& taken) {
  while (true) {
    std::string key =
        fmt::format("{}-{}", random.pick(Words(kAdjectives)), random.pick(Words(kNouns)));
    if (std::find(taken.begin(), taken.end(), key) == taken.end()) return key;
  }
}

std::string random_number(Random& random) {
  return fmt::format("{}", random.between(1000000, 9999999));
}

size_t largest(size_t most, int64_t limit, const std::function<int64_t(size_t)>& size) {
  constexpr size_t kFirst = 64;  // a small text that tells what a unit takes
  constexpr int kPatience = 8;   // of probes, after which sizes are no line, and halves are surer
  size_t low = 0;                // fits, or nothing does
  size_t high = most + 1;        // does not
  const int64_t least = size(0);
  size_t probe = std::min(kFirst, most);
  for (int count = 0; high - low > 1; ++count) {
    probe = std::clamp(probe, low + 1, high - 1);
    const int64_t got = size(probe);
    (got <= limit ? low : high) = probe;
    const double unit =
        static_cast<double>(std::max<int64_t>(got - least, 1)) / static_cast<double>(probe);
    const double room = std::max(static_cast<double>(limit - least) / unit, 0.0);
    probe = count < kPatience ? static_cast<size_t>(std::min(room, static_cast<double>(most)))
                              : low + (high - low) / 2;
  }
  return low;
}

std::string join(const std::vector<std::string>& sentences) {
  constexpr size_t kParagraph = 8;
  std::string out;
  for (size_t idx = 0; idx < sentences.size(); ++idx) {
    if (idx > 0) out += idx % kParagraph == 0 ? "\n" : " ";
    out += sentences[idx];
  }
  return out;
}

std::vector<int64_t> parse_lengths(const std::string& text, std::string_view flag) {
  std::vector<int64_t> out;
  for (const std::string_view item : tools::split_list(text)) {
    int64_t value = 0;
    const auto [end, status] = std::from_chars(item.data(), item.data() + item.size(), value);
    FOVEAL_CHECK(status == std::errc{} && end == item.data() + item.size() && value >= 1,
                 ErrorKind::kInvalidArgument, flag,
                 "got '{}'; need token counts separated by commas, such as 512,4096", text);
    FOVEAL_CHECK(std::find(out.begin(), out.end(), value) == out.end(), ErrorKind::kInvalidArgument,
                 flag, "got {} twice; need it once", value);
    out.push_back(value);
  }
  return out;
}

}  // namespace foveal::eval
