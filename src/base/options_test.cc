#include "base/options.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "base/error_testing.h"
#include "base/options_scalar.h"

namespace foveal {
namespace {

std::string message_of(const std::function<void()>& call) {
  return test::error_text(ErrorKind::kInvalidArgument, call);
}

ConfigNode plain(std::string text) { return ConfigNode::scalar(std::move(text), {}); }

TEST(Scalar, Integers) {
  EXPECT_EQ(read_int(plain("-7"), "a", "n"), -7);
  EXPECT_EQ(read_int(plain("+7"), "a", "n"), 7);
  EXPECT_EQ(read_int(plain("1e3"), "a", "n"), 1000);
  EXPECT_EQ(read_int(plain("4096.0"), "a", "n"), 4096);
  EXPECT_EQ(read_int(plain("9223372036854775807"), "a", "n"), INT64_MAX);
  EXPECT_EQ(read_int(plain("-9223372036854775808"), "a", "n"), INT64_MIN);
  EXPECT_EQ(read_uint(plain("18446744073709551615"), "a", "n"), UINT64_MAX);
  for (const char* bad :
       {"9223372036854775808", "1e30", "1.5", "010", "-010", "0x10", "1_000", "yes", "", " 1", "1 ",
        "+-1", "--1", "nan", "inf", "1e", "9007199254740993.0e1", "null"}) {
    EXPECT_EQ(message_of([&] { read_int(plain(bad), "a.b", "an integer"); }),
              fmt::format("[a.b] got {}; need an integer",
                          *bad == 0 ? std::string("''") : std::string(bad)));
  }
  for (const char* bad : {"-1", "-1.0", "18446744073709551616"}) {
    EXPECT_THROW(read_uint(plain(bad), "a", "n"), Error) << bad;
  }
}

TEST(Scalar, Numbers) {
  EXPECT_EQ(read_double(plain("1e-3"), "a", "n"), 1e-3);
  EXPECT_EQ(read_double(plain(".5"), "a", "n"), 0.5);
  EXPECT_EQ(read_double(plain("+5."), "a", "n"), 5.0);
  for (const char* bad : {"nan", ".nan", ".inf", "-.inf", "inf", "-inf", "infinity", "1e999",
                          "-1e999", "1,5", "0x1p3", "1.0f", "true", ""}) {
    EXPECT_THROW(read_double(plain(bad), "a", "n"), Error) << bad;
  }
}

TEST(Scalar, QuotedIsText) {
  const ConfigNode quoted = ConfigNode::scalar("7", {}, /*quoted=*/true);
  EXPECT_EQ(message_of([&] { read_int(quoted, "a", "an integer"); }),
            "[a] got the text '7'; need an integer");
  EXPECT_EQ(read_string(quoted, "a", "text"), "7");
  EXPECT_THROW(read_string(ConfigNode::scalar(std::string("a\0b", 3), {}), "a", "text"), Error);
}

TEST(Scalar, Booleans) {
  EXPECT_TRUE(read_bool(plain("True"), "a", "n"));
  EXPECT_FALSE(read_bool(plain("false"), "a", "n"));
  for (const char* bad : {"yes", "no", "on", "off", "1", "0", "tRUE", ""}) {
    EXPECT_THROW(read_bool(plain(bad), "a", "n"), Error) << bad;
  }
}

TEST(Printable, EscapesAndCuts) {
  EXPECT_EQ(printable("a\nb\x1b[2J"), "a\\x0ab\\x1b[2J");
  EXPECT_EQ(printable("abcdef", 3), "abc...");
  // Never half a character: 'é' is two bytes.
  EXPECT_EQ(printable("abé", 4), "abé");
  EXPECT_EQ(printable("abéx", 4), "abé...");
  EXPECT_EQ(printable("abéx", 3), "ab...");
  EXPECT_EQ(printable("\x80\x80\x80", 2), "...");
  EXPECT_LT(printable(std::string(1 << 20, '\x01')).size(), 400U);
}

TEST(AssignPath, MakesReplacesAndSteps) {
  ConfigNode root;
  assign_path(root, "a.b.c", plain("1"));
  assign_path(root, "a.b.d", plain("2"));
  assign_path(root, "a.b.c", plain("3"));
  EXPECT_EQ(root.find("a")->find("b")->find("c")->text, "3");
  EXPECT_EQ(root.find("a")->find("b")->entries.size(), 2U);

  ConfigNode list;
  list.kind = ConfigNode::Kind::kList;
  list.items = {ConfigNode::map(), ConfigNode::map()};
  assign_path(root, "l", list);
  assign_path(root, "l.1.x", plain("4"));
  EXPECT_EQ(root.find("l")->items[1].find("x")->text, "4");
  list.items.pop_back();
  assign_path(root, "l", list);
  assign_path(root, "l.x", plain("5"));
  EXPECT_EQ(root.find("l")->items[0].find("x")->text, "5");
}

TEST(AssignPath, OnePhaseKeepsTheOther) {
  ConfigNode root;
  assign_path(root, "t", plain("1000"));
  assign_path(root, "t.prefill", plain("500"));
  EXPECT_EQ(root.find("t")->find("prefill")->text, "500");
  EXPECT_EQ(root.find("t")->find("decode")->text, "1000");
}

TEST(AssignPath, Refuses) {
  ConfigNode root;
  assign_path(root, "s", plain("1"));
  ConfigNode list;
  list.kind = ConfigNode::Kind::kList;
  assign_path(root, "none", list);
  list.items = {plain("1"), plain("2")};
  assign_path(root, "two", list);
  const auto error = [&root](const std::string& path) {
    return message_of([&] { assign_path(root, path, plain("x")); });
  };
  EXPECT_EQ(error(""), "[config] got path ''; need names joined by dots");
  EXPECT_EQ(error("a..b"), "[config] got path 'a..b'; need names joined by dots");
  EXPECT_EQ(error("s.x"), "[config] got path 's.x' through 1; need a field that has fields");
  EXPECT_EQ(
      error("two.x"),
      "[config] got path 'two.x' into a list of 2; need an index from 0 to 1 in place of 'x'");
  EXPECT_EQ(
      error("two.2"),
      "[config] got path 'two.2' into a list of 2; need an index from 0 to 1 in place of '2'");
  EXPECT_EQ(error("none.0"),
            "[config] got path 'none.0' into a list of 0; need a list that is not empty");
  std::string deep = "a";
  for (int level = 0; level < 100; ++level) deep += ".a";
  EXPECT_NE(error(deep), "no error");
}

struct Toy {
  int64_t count = 3;
  std::optional<double> share;
  std::vector<std::string> words;
  std::vector<int32_t> ids;
  std::vector<std::vector<int32_t>> sequences;
  std::map<int32_t, double> bias;
  std::optional<PhaseValue> phases;
};

OptionGroup describe_toy(Toy& toy) {
  return {
      .fields = {{.name = "count",
                  .target = &toy.count,
                  .help = "how many",
                  .range = {.min = 1, .max = 9},
                  .also = {"number"}},
                 {.name = "share",
                  .target = &toy.share,
                  .help = "",
                  .range = {.min = 0, .max = 1, .above_min = true}},
                 {.name = "words", .target = &toy.words, .help = ""},
                 {.name = "ids", .target = &toy.ids, .help = ""},
                 {.name = "sequences", .target = &toy.sequences, .help = ""},
                 {.name = "bias", .target = &toy.bias, .help = "", .range = {.min = -9, .max = 9}},
                 {.name = "phases", .target = &toy.phases, .help = "", .range = {.min = 0}}}};
}

TEST(Bind, NullKeepsDefaultsAndAlsoNamesWork) {
  Toy toy;
  bind_options(describe_toy(toy), ConfigNode());
  EXPECT_EQ(toy.count, 3);
  ConfigNode root;
  assign_path(root, "number", plain("5"));
  assign_path(root, "share", ConfigNode());
  bind_options(describe_toy(toy), root);
  EXPECT_EQ(toy.count, 5);
  EXPECT_EQ(toy.share, std::nullopt);
  assign_path(root, "count", plain("6"));
  EXPECT_EQ(message_of([&] { bind_options(describe_toy(toy), root); }),
            "[count] got both number and count, which are one field; need one of them");
}

TEST(Bind, Bounds) {
  Toy toy;
  const auto error = [&toy](const char* path, const char* text) {
    ConfigNode root;
    assign_path(root, path, plain(text));
    return message_of([&] { bind_options(describe_toy(toy), root); });
  };
  EXPECT_EQ(error("count", "1"), "no error");
  EXPECT_EQ(error("count", "9"), "no error");
  EXPECT_EQ(error("count", "0"), "[count] got 0; need an integer from 1 to 9");
  EXPECT_EQ(error("count", "10"), "[count] got 10; need an integer from 1 to 9");
  EXPECT_EQ(error("share", "0"), "[share] got 0; need a number above 0 and up to 1");
  EXPECT_EQ(error("share", "1"), "no error");
  EXPECT_EQ(error("ids", "-1"), "[ids] got -1; need a token id or a list of token ids");
  EXPECT_EQ(error("ids", "2147483648"),
            "[ids] got 2147483648; need a token id or a list of token ids");
  EXPECT_EQ(error("bias.x", "1"),
            "[bias.x] got x; need a mapping from token ids to numbers from -9 to 9");
  EXPECT_EQ(error("bias.3", "10"),
            "[bias.3] got 10; need a mapping from token ids to numbers from -9 to 9");
  EXPECT_EQ(error("sequences", "3"), "[sequences] got 3; need a list of lists of token ids");
  EXPECT_EQ(error("phases.prefil", "1"),
            "[phases.prefil] got unknown key; need one of prefill, decode");
}

TEST(Validate, SameRulesWithoutAFile) {
  Toy toy;
  const OptionGroup group = describe_toy(toy);
  validate_options(group);
  toy.share = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(message_of([&] { validate_options(group, "toy"); }),
            "[toy.share] got nan; need a number above 0 and up to 1");
  toy.share.reset();
  toy.phases = PhaseValue{.prefill = 1, .decode = -1};
  EXPECT_EQ(message_of([&] { validate_options(group); }),
            "[phases.decode] got -1; need a number >= 0, for both phases or one for each of "
            "prefill, decode");
  toy.phases->decode = std::numeric_limits<double>::infinity();
  EXPECT_THROW(validate_options(group), Error);
  toy.phases.reset();
  toy.bias[4] = 10;
  EXPECT_THROW(validate_options(group), Error);
}

TEST(Help, NamesDefaultsAndRanges) {
  Toy toy;
  const OptionGroup group = describe_toy(toy);
  const std::vector<OptionHelp> rows = describe_options(group);
  ASSERT_EQ(rows.size(), group.fields.size());
  EXPECT_EQ(rows[0].flag, "--count");
  EXPECT_EQ(rows[0].placeholder, "N");
  EXPECT_EQ(rows[0].text, "how many (default 3; from 1 to 9)");
  EXPECT_EQ(flag_name("kv", "max_tokens"), "--kv-max-tokens");
}

}  // namespace
}  // namespace foveal
