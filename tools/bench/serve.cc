#include <limits>

#include "base/check.h"
#include "base/log.h"
#include "base/progress.h"
#include "bench/arrivals.h"
#include "bench/bench.h"
#include "bench/report.h"
#include "bench/report_parts.h"
#include "bench/serve_load.h"
#include "cli_options.h"
#include "measure/random.h"
#include "output.h"
#include "tokenizer/tokenizer.h"

namespace foveal::bench {
namespace {

using tools::JsonWriter;

struct ServeOptions {
  client::Server server;
  std::string endpoint = "completions";
  std::string dataset, tokenizer_model, report_json, request_json, request_csv;
  int64_t num_requests = 0;
  int64_t input_len = 1024;
  int64_t output_len = 128;
  int64_t warmup = 2;
  int64_t concurrency = -1;
  int64_t seed = 42;
  double rate = 0;
  double burstiness = 1;
  std::vector<std::string> goodput;
  bool ignore_eos = true;
};

std::vector<OptionField> source_fields(ServeOptions& options) {
  return {{.name = "url",
           .target = &options.server.url,
           .help = "the server: http://host:port, or with a path, which is /v1 if absent",
           .also = {"base_url"},
           .required = true},
          {.name = "model",
           .target = &options.server.model,
           .help = "as the server names it; absent: the first that it lists",
           .short_flag = 'm'},
          {.name = "endpoint",
           .target = &options.endpoint,
           .help = "what requests are sent to",
           .choices = {"completions", "chat"}},
          {.name = "dataset",
           .target = &options.dataset,
           .help = "a .jsonl file as of bench throughput; absent: random prompts"},
          {.name = "tokenizer_model",
           .target = &options.tokenizer_model,
           .help = "folder or .gguf whose vocabulary random prompts are drawn from, and that turns "
                   "input_ids into texts for chats",
           .also = {"tokenizer"}},
          {.name = "input_len",
           .target = &options.input_len,
           .help = "random prompts: tokens of each",
           .range = {.min = 1, .max = 1 << 24},
           .also = {"random_input_len"}},
          {.name = "output_len",
           .target = &options.output_len,
           .help = "random prompts: tokens of an answer",
           .range = {.min = 1, .max = 1 << 24},
           .also = {"random_output_len"}}};
}

std::vector<OptionField> load_fields(ServeOptions& options) {
  return {{.name = "num_requests",
           .target = &options.num_requests,
           .help = "the first so many; 0: all of a data set, or 100 random ones",
           .range = {.min = 0, .max = 1e7},
           .also = {"num_prompts"}},
          {.name = "request_rate",
           .target = &options.rate,
           .help = "requests a second; 0: as fast as --concurrency allows",
           .range = {.min = 0, .max = 1e6}},
          {.name = "burstiness",
           .target = &options.burstiness,
           .help = "with a rate: 1 is a Poisson process, less comes in bursts, more is more even",
           .range = {.min = 0, .above_min = true}},
          {.name = "concurrency",
           .target = &options.concurrency,
           .help = "requests in flight at most; -1: up to 4096",
           .range = {.min = -1, .max = static_cast<double>(kMostClients)},
           .also = {"max_concurrency"}},
          {.name = "warmup",
           .target = &options.warmup,
           .help = "requests before the measurement, with prompts of their own",
           .range = {.min = 0},
           .also = {"num_warmups"}},
          {.name = "goodput",
           .target = &options.goodput,
           .help = "what a request must keep to count: ttft:200,tpot:50,e2el:5000 (milliseconds)"},
          {.name = "ignore_eos",
           .target = &options.ignore_eos,
           .help = "ask for answers of full length; off for servers that refuse the field"},
          {.name = "seed",
           .target = &options.seed,
           .help = "of random prompts and of when requests are sent",
           .range = {.min = 0},
           .also = {"random_seed"}}};
}

OptionGroup describe(ServeOptions& options) {
  OptionGroup group{.fields = source_fields(options)};
  const auto add = [&](std::vector<OptionField> more) {
    for (OptionField& field : more) group.fields.push_back(std::move(field));
  };
  add(load_fields(options));
  add(client::describe(options.server));
  add({{.name = "report_json",
        .target = &options.report_json,
        .help = "file for the report",
        .also = {"result_filename"}},
       {.name = "request_json",
        .target = &options.request_json,
        .help = "file for what was measured of each request"},
       {.name = "request_csv", .target = &options.request_csv, .help = "the same with commas"}});
  return group;
}

Dataset random_prompts(const ServeOptions& options) {
  FOVEAL_CHECK(!options.tokenizer_model.empty(), ErrorKind::kInvalidArgument, "dataset",
               "got neither --dataset nor --tokenizer-model; need requests, or a vocabulary for "
               "random ones");
  const std::vector<int32_t> plain = plain_ids({.model = options.tokenizer_model});
  Dataset out;
  const int64_t count = options.num_requests > 0 ? options.num_requests : 100;
  for (int64_t task = 0; task < count; ++task) {
    measure::Random random(static_cast<uint64_t>(options.seed), fmt::format("request {}", task));
    std::vector<int32_t> ids(static_cast<size_t>(options.input_len));
    for (int32_t& id : ids) id = random.pick(std::span<const int32_t>(plain));
    out.requests.push_back({.task_id = fmt::format("{}", task),
                            .prompt = {.token_ids = std::move(ids)},
                            .output_tokens = options.output_len});
  }
  return out;
}

// As long as the first requests, but with other beginnings: none of their pages is found later.
std::vector<BenchRequest> warm_ups(std::span<const BenchRequest> requests) {
  std::vector<BenchRequest> out(requests.begin(), requests.end());
  for (BenchRequest& request : out) {
    if (request.prompt.token_ids) {
      std::reverse(request.prompt.token_ids->begin(), request.prompt.token_ids->end());
    } else {
      request.prompt.text.insert(0, "Warm-up. ");
    }
  }
  return out;
}

int64_t kept(const LoadResult& load, const Slo& slo) {
  return std::count_if(load.requests.begin(), load.requests.end(),
                       [&](const Measured& one) { return slo.kept(one); });
}

void write_goodput(JsonWriter& json, const LoadResult& load, const Slo& slo) {
  const auto good = static_cast<double>(kept(load, slo));
  json.key("goodput").begin_object();
  if (slo.ttft) json.field("ttft_ms", *slo.ttft);
  if (slo.tpot) json.field("tpot_ms", *slo.tpot);
  if (slo.latency) json.field("e2el_ms", *slo.latency);
  json.field("good_requests", static_cast<int64_t>(good));
  // Failed requests are not good ones.
  json.field("share", good / static_cast<double>(load.requests.size() + load.failures.size()));
  json.field("request_goodput_req_s", 1000 * good / load.total_ms).end_object();
}

std::string serve_json(const ServeOptions& options, const LoadResult& load, const Slo& slo) {
  const Totals totals = totals_of(load);
  JsonWriter json;
  json.begin_object().field("command", "serve");
  json.key("server").begin_object().field("url", std::string_view(options.server.url));
  json.field("model", std::string_view(options.server.model));
  json.field("endpoint", std::string_view(options.endpoint)).end_object();
  json.key("load").begin_object().field("request_rate", options.rate);
  json.field("burstiness", options.burstiness).field("concurrency", options.concurrency);
  json.field("seed", options.seed).end_object();
  if (!load.requests.empty()) {
    write_performance(json, load, totals);
    write_streaming(json, totals);
  }
  if (slo.any()) write_goodput(json, load, slo);
  write_failures(json, load);
  json.field("dataset", std::string_view(options.dataset)).end_object();
  return json.text() + "\n";
}

LoadResult measured(const ServeOptions& options, Dataset& dataset,
                    const tokenizer::Tokenizer* tokenizer) {
  const auto requests = first(dataset.requests, options.num_requests);
  ServeLoad load{.server = options.server,
                 .chat = options.endpoint == "chat",
                 .concurrency = std::max<int64_t>(options.concurrency, 0),
                 .ignore_eos = options.ignore_eos,
                 .tokenizer = tokenizer};
  if (options.warmup > 0) {
    const auto warm = warm_ups(first(requests, options.warmup));
    load.starts.assign(warm.size(), 0);
    run_serve(load, warm, [](int64_t) {});
  }
  load.starts = arrivals(std::ssize(requests), options.rate, options.burstiness,
                         static_cast<uint64_t>(options.seed));
  Progress bar("requests", std::ssize(requests));
  LoadResult result = run_serve(load, requests, [&](int64_t done) { bar.update(done); });
  for (Failure& failure : dataset.failures) result.failures.push_back(std::move(failure));
  return result;
}

void check_outputs(const ServeOptions& options) {
  const tools::OutputFile outputs[] = {{"report-json", options.report_json},
                                       {"request-json", options.request_json},
                                       {"request-csv", options.request_csv}};
  const std::string inputs[] = {options.dataset, options.tokenizer_model};
  tools::check_outputs(outputs, inputs);
}

}  // namespace

int serve_bench_main(std::span<const std::string> args) {
  ServeOptions own;
  tools::Command command("bench serve",
                         "A client of any server with OpenAI's API: what its users get.");
  command.options("Serve", describe(own));
  if (!command.parse(args)) return 0;
  check_outputs(own);
  FOVEAL_CHECK(own.concurrency != 0, ErrorKind::kInvalidArgument, "concurrency",
               "got 0; need -1 or a number from 1");
  const Slo slo = parse_slo(own.goodput);
  own.server.model = client::OpenAi(own.server).model();  // and nothing else if it does not answer
  Dataset dataset = own.dataset.empty() ? random_prompts(own) : read_dataset(own.dataset);
  std::unique_ptr<tokenizer::Tokenizer> tokenizer;
  if (!own.tokenizer_model.empty()) tokenizer = tools::load_if_any({.model = own.tokenizer_model});
  const LoadResult load = measured(own, dataset, tokenizer.get());
  std::string shown = performance_text(load, totals_of(load));
  if (slo.any()) {
    shown += text_line(
        "Request goodput (req/sec)",
        fmt::format("{:.4f}", 1000 * static_cast<double>(kept(load, slo)) / load.total_ms));
  }
  const tools::OutputText files[] = {{"report-json", own.report_json, serve_json(own, load, slo)},
                                     {"request-json", own.request_json, requests_json(load)},
                                     {"request-csv", own.request_csv, requests_csv(load)}};
  tools::write_results(files, shown);
  measure::warn_of(load.failures, own.report_json.empty() ? "--report_json" : own.report_json);
  return load.requests.empty() ? 1 : 0;
}

}  // namespace foveal::bench
