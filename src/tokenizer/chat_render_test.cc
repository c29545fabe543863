#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <fstream>
#include <iterator>

#include "foveal/error.h"
#include "tokenizer/tokenizer.h"

namespace foveal::tokenizer {
namespace {

namespace json = boost::json;

json::value read_cases() {
  std::ifstream file(std::string(FOVEAL_SOURCE_DIR) + "/src/tokenizer/testdata/chat_cases.json");
  return json::parse(std::string{std::istreambuf_iterator<char>(file), {}});
}

// Expected texts come from jinja2 with transformers' settings (testdata/make_chat_cases.py).
TEST(ChatRender, SaysWhatJinja2Says) {
  const json::value all = read_cases();
  int rendered = 0;
  for (const json::value& item : all.at("cases").as_array()) {
    const json::object& wanted = item.as_object();
    const json::string& name = wanted.at("template").as_string();
    RenderOptions options;
    options.add_generation_prompt = wanted.at("add_generation_prompt").as_bool();
    options.extra_json = json::serialize(wanted.at("extra"));
    const std::string messages = json::serialize(wanted.at("messages"));
    const std::string chat_template(all.at("templates").at(name).as_string());
    const auto render = [&] {
      return render_chat(chat_template, messages, "<bos>", "<eos>", options);
    };
    SCOPED_TRACE(std::string(name) + " case " + std::to_string(rendered));
    ++rendered;
    if (const json::value* message = wanted.if_contains("error")) {
      try {
        render();
        ADD_FAILURE() << "no error";
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
        EXPECT_EQ(error.what(), "[chat_template] got '" + std::string(message->as_string()) +
                                    "' from the template; need messages that it accepts");
      }
      continue;
    }
    try {
      EXPECT_EQ(render(), std::string(wanted.at("text").as_string()));
    } catch (const Error& error) {
      ADD_FAILURE() << error.what();
    }
  }
  EXPECT_EQ(rendered, 15);
}

}  // namespace
}  // namespace foveal::tokenizer
