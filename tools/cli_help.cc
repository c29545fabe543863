#include "cli_help.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace foveal::tools {
namespace {

constexpr size_t kWidth = 100;
constexpr size_t kColumn = 34;  // where texts begin

bool is_switch(const OptionField& field) {
  return std::holds_alternative<bool*>(field.target) ||
         std::holds_alternative<std::optional<bool>*>(field.target);
}

std::string left_of(const OptionHelp& row) {
  std::string left;
  if (row.field->short_flag != 0) left = fmt::format("-{}, ", row.field->short_flag);
  left += row.flag;
  if (!row.placeholder.empty()) left += fmt::format(" {}", row.placeholder);
  return left;
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t a_idx = 1; a_idx <= a.size(); ++a_idx) {
    size_t diagonal = std::exchange(row[0], a_idx);
    for (size_t b_idx = 1; b_idx <= b.size(); ++b_idx) {
      const size_t change = diagonal + (a[a_idx - 1] == b[b_idx - 1] ? 0 : 1);
      diagonal = row[b_idx];
      row[b_idx] = std::min({change, row[b_idx] + 1, row[b_idx - 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string help_row(std::string_view left, std::string_view text, int indent) {
  std::string out(static_cast<size_t>(indent), ' ');
  out += left;
  size_t column = out.size();
  const auto start_line = [&] {
    out += fmt::format("\n{:{}}", "", kColumn);
    column = kColumn;
  };
  if (column + 2 > kColumn) {
    start_line();
  } else {
    out.append(kColumn - column, ' ');
    column = kColumn;
  }
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    if (column > kColumn && column + 1 + end > kWidth) start_line();
    if (column > kColumn) {
      out += ' ';
      ++column;
    }
    out += text.substr(0, end);
    column += end;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  out += '\n';
  return out;
}

std::string help_flags(const std::vector<OptionHelp>& rows) {
  std::string out;
  for (const OptionHelp& row : rows) {
    if (row.flag.empty()) continue;
    std::string text = row.text;
    // A switch that is on can only be changed by its opposite.
    if (is_switch(*row.field) && text.find("(default true") != std::string::npos) {
      text += fmt::format("; off: --no-{}", row.flag.substr(2));
    }
    out += help_row(left_of(row), text);
  }
  return out;
}

std::string help_yaml_only(const std::vector<OptionHelp>& rows) {
  std::string out;
  std::string last_parent;
  for (const OptionHelp& row : rows) {
    if (!row.flag.empty()) continue;
    const size_t dot = row.path.rfind('.');
    const std::string parent = dot == std::string::npos ? "" : row.path.substr(0, dot);
    if (parent != last_parent && !parent.empty()) out += fmt::format("  {}\n", parent);
    last_parent = parent;
    std::string left = dot == std::string::npos ? row.path : row.path.substr(dot + 1);
    if (!row.placeholder.empty()) left += fmt::format(" {}", row.placeholder);
    out += help_row(left, row.text, parent.empty() ? 2 : 4);
  }
  return out;
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  constexpr size_t kMaxDistance = 3;
  constexpr size_t kMaxWord = 64;  // the distance is quadratic and the word a stranger's
  std::string best;
  size_t best_distance = kMaxDistance;
  if (word.size() > kMaxWord) return best;
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace foveal::tools
