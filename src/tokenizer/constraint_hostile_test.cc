// Constraints made to hang, to eat memory or to overflow a stack.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "tokenizer/constraint_walk.h"
#include "tokenizer/test_vocab.h"

namespace foveal::tokenizer {
namespace {

std::string repeat(int count, const std::function<std::string(int)>& piece) {
  std::string out;
  for (int at = 0; at < count; ++at) out += piece(at);
  return out;
}
std::string repeat(int count, const std::string& piece) {
  return repeat(count, [&](int) { return piece; });
}

/// Definitions d0..dn, each `body` with %d replaced by the next one's number, and an end.
std::string chain(const std::string& root, const std::string& body, int count) {
  const auto numbered = [&](int at) {
    std::string text = body;
    for (size_t mark = text.find('%'); mark != std::string::npos; mark = text.find('%')) {
      text.replace(mark, 1, std::to_string(at + 1));
    }
    return "\"d" + std::to_string(at) + "\": " + text + ", ";
  };
  return root + ", \"$defs\": {" + repeat(count, numbered) + "\"d" + std::to_string(count) +
         "\": {\"type\": \"null\"}}}";
}

GuidedDecoding any_of_product(int factors, int options) {
  const std::string list = "{\"anyOf\": [" +
                           repeat(options,
                                  [](int at) {
                                    return std::string(at ? "," : "") + "{\"properties\": {\"p" +
                                           std::to_string(at) + "\": {\"type\": \"null\"}}}";
                                  }) +
                           "]}";
  return json_schema("{\"allOf\": [" +
                     repeat(factors, [&](int at) { return (at ? "," : "") + list; }) + "]}");
}

std::vector<std::pair<std::string, GuidedDecoding>> hostile_schemas() {
  const std::string ref = R"({"$ref": "#/$defs/d%"})";
  return {
      {"deep objects",
       json_schema(repeat(120, R"({"properties": {"a": )") + "{}" + repeat(120, "}}"))},
      {"too deep", json_schema(repeat(20000, R"({"items": )") + "{}" + repeat(20000, "}"))},
      {"brackets", json_schema(std::string(200000, '['))},
      {"chain of references", json_schema(chain(R"({"$ref": "#/$defs/d0")", ref, 7000))},
      {"chain of objects", json_schema(chain(R"({"$ref": "#/$defs/d0")",
                                             R"({"properties": {"a": )" + ref + "}}", 4000))},
      {"chain of allOf", json_schema(chain(R"({"$ref": "#/$defs/d0")",
                                           R"({"allOf": [)" + ref + "," + ref + "]}", 60))},
      {"doubling intersections",
       json_schema(chain(R"({"allOf": [{"$ref": "#/$defs/d0"}, {"$ref": "#/$defs/d0"}])",
                         R"({"properties": {"x": )" + ref + R"(, "y": )" + ref + "}}", 60))},
      {"itself", json_schema(R"({"$ref": "#"})")},
      {"itself in allOf", json_schema(R"({"allOf": [{"$ref": "#"}, {"$ref": "#"}]})")},
      {"recursive intersection",
       json_schema(R"({"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}], "$defs": {
         "a": {"properties": {"x": {"$ref": "#/$defs/a"}, "y": {"$ref": "#/$defs/a"}}},
         "b": {"properties": {"x": {"$ref": "#/$defs/b"}, "y": {"$ref": "#/$defs/b"}}}}})")},
      {"product of anyOf", any_of_product(20, 10)},
      {"square of anyOf", any_of_product(2, 100)},
      {"10k enum",
       json_schema(
           "{\"enum\": [" +
           repeat(10000, [](int at) { return (at ? "," : "") + std::to_string(at * 7919); }) +
           "]}")},
      {"10k enum of strings", json_schema("{\"enum\": [" +
                                          repeat(10000,
                                                 [](int at) {
                                                   return std::string(at ? "," : "") + "\"value " +
                                                          std::to_string(at * 7919 % 10007) + "\"";
                                                 }) +
                                          "]}")},
      {"5k properties", json_schema("{\"additionalProperties\": false, \"properties\": {" +
                                    repeat(5000,
                                           [](int at) {
                                             return std::string(at ? "," : "") + "\"property" +
                                                    std::to_string(at) + "\": {\"type\": \"null\"}";
                                           }) +
                                    "}}")},
      {"2k patterns", json_schema("{\"patternProperties\": {" +
                                  repeat(2000,
                                         [](int at) {
                                           return std::string(at ? "," : "") + "\"^a" +
                                                  std::to_string(at) + ".*\": {}";
                                         }) +
                                  "}}")},
      {"32 patterns", json_schema("{\"patternProperties\": {" +
                                  repeat(32,
                                         [](int at) {
                                           return std::string(at ? "," : "") + "\"(a|b)*a(a|b){" +
                                                  std::to_string(at) + "}c\": {}";
                                         }) +
                                  "}}")},
      {"255 oneOf", json_schema("{\"oneOf\": [" +
                                repeat(255,
                                       [](int at) {
                                         return std::string(at ? "," : "") +
                                                "{\"const\": " + std::to_string(at) + "}";
                                       }) +
                                "]}")},
      {"huge counts", json_schema(R"({"type": "array", "minItems": 1000000000, "items": {"type":
         "string", "minLength": 100000000, "maxLength": 4000000000}})")},
      {"many prefix items",
       json_schema(R"({"type": "array", "minItems": 100000, "prefixItems": [{}]})")},
      {"huge numbers", json_schema(R"({"type": "number", "minimum": -1e308, "maximum": 1e308,
         "multipleOf": 0.000000001})")},
      {"long digits",
       json_schema(R"({"type": "integer", "minimum": )" + std::string(1000, '9') + "}")},
      {"many properties required", json_schema(R"({"minProperties": 100000, "type": "object"})")},
      {"all the classes",
       json_schema(R"({"type": "string", "pattern": ")" + repeat(20000, "\\\\w") + "\"}")},
      {"hard intersection", json_schema(R"({"type": "string", "allOf": [)" +
                                        repeat(40,
                                               [](int at) {
                                                 return (at ? "," : "") +
                                                        ("{\"pattern\": \"^(x|(.{" +
                                                         std::to_string(at + 2)) +
                                                        "})*)$\"}";
                                               }) +
                                        "]}")},
      {"hard length",
       json_schema(R"({"anyOf": [{"const": "x"}, {"type": "string", "minLength": 2000000000,
         "pattern": "^(a.{96})*$"}]})")},
      {"exponential pattern",
       json_schema(R"({"type": "string", "pattern": "^(a|b)*a(a|b){60}$"})")},
  };
}

std::vector<std::pair<std::string, GuidedDecoding>> hostile_others() {
  const auto rule = [](const char* form) {
    return [form](int at) {
      std::string text = form;
      for (size_t mark = text.find('%'); mark != std::string::npos; mark = text.find('%')) {
        text.replace(mark, 1, std::to_string(at + 1));
      }
      return text.substr(0, 1) + std::to_string(at) + text.substr(1);
    };
  };
  return {
      {"huge repetition", regex("x{1,100000000}")},
      {"nested repetition", regex("((((x{1,1000}){1,1000}){1,1000}){1,1000}){1,1000}")},
      {"counted classes", regex("(\\w{1,1000}\\d){1,1000}")},
      {"exponential", regex("(a|b)*a(a|b){40}")},
      {"exponential both ways", regex("(.*a.{30})|(.*b.{30})")},
      {"ambiguous", regex("(a*)*(a*)*(a*)*b")},
      {"alternation of all",
       regex("(" +
             repeat(2000, [](int at) { return (at ? "|" : "") + std::to_string(at) + ".*"; }) +
             ")")},
      {"deep groups", regex(repeat(7000, "(") + "a" + repeat(7000, ")"))},
      {"deep repeats", regex(repeat(200, "(") + "a" + repeat(200, ")+"))},
      {"many classes", regex(repeat(8000, "\\w"))},
      {"case folding", regex("(?i)" + repeat(5000, "k\u017f"))},
      {"long", regex(std::string(16000, 'a'))},
      {"longer", regex(std::string(300000, 'a'))},
      {"10k choices", choice([] {
         std::vector<std::string> out;
         for (int at = 0; at < 10000; ++at) out.push_back("choice " + std::to_string(at * 7919));
         return out;
       }())},
      {"long choice", choice({std::string(250000, 'z')})},
      {"chain of rules", grammar("start: r0\n" + repeat(5000, rule("r: r%\n")) + "r5000: \"a\"\n")},
      {"chain of terminals",
       grammar("start: T0\n" + repeat(3900, rule("T: T% \"x\"\n")) + "T3900: \"a\"\n")},
      {"doubling rules", grammar("start: r0\n" + repeat(60, rule("r: r% r%\n")) + "r60: \"a\"\n")},
      {"doubling terminals",
       grammar("start: T0\n" + repeat(60, rule("T: T% T%\n")) + "T60: \"a\"\n")},
      {"ambiguous rules", grammar("start: e\ne: e e | e e e | \"a\" | \"\"\n")},
      {"left recursion", grammar("start: e\ne: e \"a\" |\n")},
      {"nested groups", grammar("start: " + repeat(15000, "(") + "\"a\"" + repeat(15000, ")"))},
      {"repeated rule", grammar("start: a{1,100000000}\na: \"x\" | \"y\"\n")},
      {"nested repeated rules",
       grammar("start: ((((\"x\"{1,999}){1,999} \"y\"){1,999}){1,999} \"z\"){1,999}")},
      {"negated terminals",
       grammar("start: T\nT: " + repeat(29, "~(") + "/(a|b)*a(a|b){20}/" + repeat(29, ")"))},
      {"intersected terminals",
       grammar("start: T\nT: " + repeat(60,
                                        [](int at) {
                                          return std::string(at ? " & " : "") + "/(.{" +
                                                 std::to_string(at + 2) + "})*/";
                                        }))},
      {"substring",
       grammar("start: T\nT: %regex {\"substring_chars\": \"" +
               repeat(6000, [](int at) { return std::to_string(at * 7919 % 10); }) + "\"}\n")},
      {"product in a grammar", grammar("start: %json " + any_of_product(20, 10).text)},
      {"chain of %lark",
       grammar("start: " + repeat(3000, "%lark {\nstart: ") + "\"a\"" + repeat(3000, "\n}"))},
  };
}

int compiling() {
  int count = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream name(task.path() / "comm");
    std::string text;
    if (std::getline(name, text) && text == "foveal-guided") count += 1;
  }
  return count;
}

/// What is hostile would take hours; what is bounded takes a second, or minutes where many
/// processes share a core.
constexpr std::chrono::minutes kHang{10};

/// What took too long is left alone, but comes to an end; until then new ones may be refused.
void wait_for_what_was_left() {
  const auto start = std::chrono::steady_clock::now();
  while (compiling() > 0 && std::chrono::steady_clock::now() - start < kHang) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(compiling(), 0);
}

/// Refused, or compiled in bounded time with steps of bounded time.
void must_be_bounded(const std::string& name, const GuidedDecoding& what) {
  const auto tokenizer = byte_level_vocab().load();
  Attempt got = attempt(*tokenizer, what);
  const double most_ms = std::chrono::duration<double, std::milli>(kHang).count();
  EXPECT_LT(got.ms, most_ms) << name;
  wait_for_what_was_left();
  double slowest = 0;
  std::mt19937 random(7);
  for (int step = 0; got.constraint && step < 30; ++step) {
    const auto start = std::chrono::steady_clock::now();
    try {
      const std::vector<int32_t> tokens = listed(got.constraint->allowed());
      if (!tokens.empty()) got.constraint->accept(tokens[random() % tokens.size()]);
      if (got.constraint->finished()) break;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument) << name << ": " << error.what();
      got.error = error.what();
      break;
    }
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    slowest = std::max(slowest, took.count());
  }
  EXPECT_LT(slowest, most_ms) << name;
  if (std::getenv("FOVEAL_SHOW") == nullptr) return;
  std::printf("%-28s compile %7.1f ms, slowest step %6.2f ms  %.150s\n", name.c_str(), got.ms,
              slowest, got.error.c_str());
}

TEST(ConstraintHostile, SchemasAreBounded) {
  for (const auto& [name, what] : hostile_schemas()) must_be_bounded(name, what);
}

TEST(ConstraintHostile, RegexesChoicesAndGrammarsAreBounded) {
  for (const auto& [name, what] : hostile_others()) must_be_bounded(name, what);
}

}  // namespace
}  // namespace foveal::tokenizer
