#include "eval/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "json_writer.h"

namespace foveal::eval {
namespace {

using measure::Interval;
using measure::Record;
using measure::Unit;
using tools::JsonWriter;
using Records = std::vector<const Record*>;
using Tags = std::map<std::string, std::string>;

Records good_ones(const std::vector<Record>& records) {
  Records out;
  for (const Record& record : records) {
    if (!record.error) out.push_back(&record);
  }
  return out;
}

Records with_tags(const Records& records, const Tags& tags) {
  Records out;
  std::copy_if(records.begin(), records.end(), std::back_inserter(out), [&](const Record* record) {
    return std::all_of(tags.begin(), tags.end(), [&](const auto& tag) {
      const auto found = record->tags.find(tag.first);
      return found != record->tags.end() && found->second == tag.second;
    });
  });
  return out;
}

// One over the samples of its cell, over the cells of the one around it, and so on.
double weight(const Records& records, const Record& record, const Metric& metric) {
  double out = 1;
  Tags outer;
  for (const std::string& name : metric.balance) {
    std::set<std::string> cells;
    for (const Record* one : with_tags(records, outer)) cells.insert(one->tags.at(name));
    out /= static_cast<double>(cells.size());
    outer[name] = record.tags.at(name);
  }
  return metric.balance.empty() ? 1 : out / static_cast<double>(with_tags(records, outer).size());
}

std::vector<Unit> units(const Records& records, const std::string& arm, const Metric& metric) {
  std::vector<Unit> out;
  std::map<Tags, double> weights;
  for (const Record* record : records) {
    const auto& values = record->arms.at(arm).values;
    const auto found = values.find(metric.name);
    if (found == values.end()) continue;
    const auto [at, is_new] = weights.try_emplace(record->tags, 1);
    if (is_new) at->second = weight(records, *record, metric);
    for (const Unit& unit : found->second) {
      out.push_back({unit.sum * at->second, unit.count * at->second});
    }
  }
  return out;
}

double score(const std::vector<Unit>& of, const Metric& metric) {
  return metric.transform(measure::mean(of));
}

void write_interval(JsonWriter& json, std::string_view key, const Interval& interval) {
  json.key(key).begin_array().value(interval.low).value(interval.high).end_array();
}

bool measures(const Results& results, const std::string& arm, const Metric& metric) {
  return metric.paired || arm == results.arms.back();
}

void write_scores(JsonWriter& json, const Results& results, const Records& records,
                  const std::string& arm, bool with_intervals) {
  for (const Metric& metric : results.metrics) {
    if (!measures(results, arm, metric)) continue;
    const std::vector<Unit> of = units(records, arm, metric);
    if (of.empty()) continue;
    json.field(metric.title, score(of, metric));
    if (!with_intervals) continue;
    write_interval(json, fmt::format("{}_interval", metric.title),
                   measure::interval(of, metric.transform, results.seed));
  }
}

void write_differences(JsonWriter& json, const Results& results, const Records& records) {
  if (results.arms.size() < 2) return;
  json.key("difference").begin_object();
  for (const Metric& metric : results.metrics) {
    if (!metric.paired) continue;
    const std::vector<Unit> baseline = units(records, results.arms.front(), metric);
    const std::vector<Unit> tested = units(records, results.arms.back(), metric);
    if (baseline.empty() || baseline.size() != tested.size()) continue;
    json.key(metric.title).begin_object();
    json.field("value", score(tested, metric) - score(baseline, metric));
    write_interval(json, "interval",
                   measure::paired_interval(baseline, tested, metric.transform, results.seed));
    json.field("pairs", static_cast<int64_t>(baseline.size())).end_object();
  }
  json.end_object();
}

SparsityReport sparsity(const Records& records, const std::string& arm) {
  SparsityReport out;
  for (const Record* record : records) {
    const SparsityReport& one = record->arms.at(arm).sparsity;
    out.method = one.method;
    out.add(one);
  }
  return out;
}

void write_phases(JsonWriter& json, const LayerSparsity& layer) {
  json.field("prefill", layer.prefill.skipped()).field("decode", layer.decode.skipped());
}

void write_costs(JsonWriter& json, const Records& records, const std::string& arm) {
  const SparsityReport of = sparsity(records, arm);
  if (of.layers.empty()) return;  // a server does not say
  json.key("sparsity").begin_object().field("method", std::string_view(of.method));
  write_phases(json, of.total());
  json.key("layers").begin_array();
  for (const LayerSparsity& layer : of.layers) {
    json.begin_object();
    write_phases(json, layer);
    json.end_object();
  }
  json.end_array().end_object();
  std::vector<double> held;
  std::vector<double> peak;
  for (const Record* record : records) {
    held.push_back(static_cast<double>(record->arms.at(arm).kv_bytes));
    peak.push_back(static_cast<double>(record->arms.at(arm).kv_peak_bytes));
  }
  json.field("kv_bytes", measure::average(held)).field("kv_peak_bytes", measure::average(peak));
}

void write_arms(JsonWriter& json, const Results& results, const Records& records) {
  for (const std::string& arm : results.arms) {
    json.key(arm).begin_object();
    write_scores(json, results, records, arm, /*with_intervals=*/true);
    write_costs(json, records, arm);
    json.end_object();
  }
}

// Every set of tags once, in the order of the samples; and every single tag where there are more.
std::vector<Tags> groupings(const Records& records) {
  std::vector<Tags> out;
  const auto add = [&](const Tags& tags) {
    if (!tags.empty() && std::find(out.begin(), out.end(), tags) == out.end()) out.push_back(tags);
  };
  for (const Record* record : records) {
    if (record->tags.size() < 2) continue;
    for (const auto& tag : record->tags) add({tag});
  }
  for (const Record* record : records) add(record->tags);
  return out;
}

void write_groups(JsonWriter& json, const Results& results, const Records& records) {
  json.key("groups").begin_array();
  for (const Tags& tags : groupings(records)) {
    const Records group = with_tags(records, tags);
    json.begin_object().key("tags").begin_object();
    for (const auto& [name, value] : tags) json.field(name, std::string_view(value));
    json.end_object().field("samples", static_cast<int64_t>(group.size()));
    for (const std::string& arm : results.arms) {
      json.key(arm).begin_object();
      write_scores(json, results, group, arm, /*with_intervals=*/false);
      const SparsityReport of = sparsity(group, arm);
      if (!of.layers.empty()) {
        json.key("sparsity").begin_object();
        write_phases(json, of.total());
        json.end_object();
      }
      json.end_object();
    }
    write_differences(json, results, group);
    json.end_object();
  }
  json.end_array();
}

void write_failures(JsonWriter& json, const std::vector<Record>& records) {
  json.key("failures").begin_array();
  for (const Record& record : records) {
    if (!record.error) continue;
    json.begin_object().field("id", std::string_view(record.id));
    json.field("error", std::string_view(*record.error)).end_object();
  }
  json.end_array();
}

std::string interval_text(const Interval& interval, std::string_view unit) {
  if (!std::isfinite(interval.low)) return "";
  return fmt::format(" [{:+.4g}, {:+.4g}]{}", interval.low, interval.high, unit);
}

}  // namespace

std::string summary_json(const Results& results, const measure::Settings& about) {
  const Records records = good_ones(results.records);
  const Metric& headline = results.metrics.front();
  JsonWriter json;
  json.begin_object().field("task", std::string_view(results.task));
  json.field("metric", headline.title);
  const std::string& tested = results.arms.back();
  json.field("score",
             records.empty() ? std::nan("") : score(units(records, tested, headline), headline));
  json.field("score_of", std::string_view(tested));
  json.field("samples", static_cast<int64_t>(results.records.size()));
  json.field("failed", static_cast<int64_t>(results.records.size() - records.size()));
  if (!records.empty()) {
    write_arms(json, results, records);
    write_differences(json, results, records);
    write_groups(json, results, records);
  }
  write_failures(json, results.records);
  json.key("about").begin_object();
  for (const auto& [name, value] : about) json.field(name, std::string_view(value));
  json.end_object().end_object();
  return json.text() + "\n";
}

std::string summary_text(const Results& results) {
  const Records records = good_ones(results.records);
  std::string out = fmt::format("{}: {} samples, {} failed\n", results.task, results.records.size(),
                                results.records.size() - records.size());
  if (records.empty()) return out;
  for (const Metric& metric : results.metrics) {
    std::string line;
    std::vector<std::vector<Unit>> sides;
    for (const std::string& arm : results.arms) {
      if (!measures(results, arm, metric)) continue;
      sides.push_back(units(records, arm, metric));
      if (sides.back().empty()) continue;
      line += fmt::format("  {} {:.6g}", arm, score(sides.back(), metric));
    }
    if (line.empty()) continue;
    out += fmt::format("{:<20}{}", metric.title, line);
    if (sides.size() == 2 && sides[0].size() == sides[1].size()) {
      out += fmt::format(
          "  difference {:+.4g}{}", score(sides[1], metric) - score(sides[0], metric),
          interval_text(
              measure::paired_interval(sides[0], sides[1], metric.transform, results.seed),
              metric.unit));
    }
    out += '\n';
  }
  for (const std::string& arm : results.arms) {
    const SparsityReport of = sparsity(records, arm);
    if (of.layers.empty()) continue;
    const LayerSparsity total = of.total();
    out +=
        fmt::format("{:<20}  {}: left out {:.1f} % in prefill, {:.1f} % in decode\n", "attention",
                    arm, 100 * total.prefill.skipped(), 100 * total.decode.skipped());
  }
  return out;
}

}  // namespace foveal::eval
