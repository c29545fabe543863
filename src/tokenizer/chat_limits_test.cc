#include <gtest/gtest.h>

#include "foveal/error.h"
#include "tokenizer/tokenizer.h"

namespace foveal::tokenizer {
namespace {

std::string error_of(const std::string& chat_template) {
  try {
    const std::string text =
        render_chat(chat_template, R"([{"role":"user","content":"x"}])", "", "", {});
    return "rendered " + std::to_string(text.size()) + " bytes";
  } catch (const Error& error) {
    return error.what();
  }
}

std::string repeated(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

TEST(ChatLimits, HostileTemplatesEndWithAnError) {
  const std::string templates[] = {
      "{{ 'a' * 10**9 }}",
      "{% set x = 'a' * 10**7 %}{{ x ~ x }}",
      "{% set x = 'abcdefgh' %}" + repeated("{% set x = x ~ x %}", 60),
      "{% set x = 'abcdefgh' %}" + repeated("{% set x = x + x %}", 60),
      "{% set x = 'abcdefgh' %}" + repeated("{% set x %}{{ x }}{{ x }}{% endset %}", 60),
      "{% set x = [1] %}" + repeated("{% set x = x + x %}", 60) + "{{ x | length }}",
      "{% set x = [1] %}" + repeated("{% set x = [x, x] %}", 60) + "{{ x | tojson }}",
      "{% set x = [1] %}" + repeated("{% set x = {'a': x, 'b': x} %}", 60) + "{{ x }}",
      "{{ ([1] * 10**9) | list | length }}",
      "{% set x = " + repeated("'a' * 10**8 ~ ", 9) + "'' %}",
      "{{ range(10**9) | length }}",
      "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
      "{% for i in range(100000) %}" + std::string(1000, 'x') + "{% endfor %}",
      "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
      "{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('aaaaaaaa') }}",
      "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor "
      "%}",
      "{% set x = 'a' * 10000 %}{{ x | replace('a', x) | replace('a', x) | length }}",
      "{% set x = 'a' * 10000 %}{{ x.replace('a', x).replace('a', x) | length }}",
      "{{ (['a'] * 100000) | join('b' * 100000) | length }}",
      "{{ 'x'.join(['a' * 1000000] * 100000) | length }}",
      "{{ '%999999999d' | format(1) }}",
      "{{ '{:>999999999}'.format(1) }}",
      "{{ 'a\nb' | indent(10**12) }}",
      "{{ 10**10**10 }}",
      "{{ 1/0 }}",
      "{{ 1 // (messages | length - 1) }}",
      "{{ 1.5 % 0.0 }}",
      "{{ messages.nothing.more }}",
      "{% for %}",
      "{{ x\x01 }}",
      "{{ nothing() }}",
      "{{ x | nothing }}",
      "{% include 'other' %}",
      "{{ raise_exception('the template\nsays no') }}",
  };
  for (const std::string& chat_template : templates) {
    const std::string error = error_of(chat_template);
    EXPECT_TRUE(error.starts_with("[chat_template] ")) << chat_template.substr(0, 80) << error;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  }
}

TEST(ChatLimits, ErrorsSayWhatWouldHelp) {
  const std::pair<std::string, std::string> cases[] = {
      {"{{ raise_exception('no') }}", "got 'no' from the template; need messages that it accepts"},
      {"{{ raise_exception('') }}", "got '' from the template; need messages that it accepts"},
      {"a\n{{ x.y.z }}",
       "got undefined value at line 2 of the template; need a template and messages that suit each "
       "other"},
      {"{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}",
       "got a template that writes more than 16 MB at line 1 of the template; need at most that"},
      {"{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
       "got a template of too many steps; need at most 20000000"},
      {"{{ 1 / 0 }}",
       "got a division by zero at line 1 of the template; need a template and messages that suit "
       "each other"},
  };
  for (const auto& [chat_template, error] : cases) {
    EXPECT_EQ(error_of(chat_template), "[chat_template] " + error);
  }
  EXPECT_EQ(error_of("{{ 7 / 2 }}{{ 7 // 2 }}{{ 7 % 2 }}{{ 0 / 1 }}"), "rendered 8 bytes");
  EXPECT_EQ(error_of("{% if false %}{{ 1 / 0 }}{% endif %}"), "rendered 0 bytes");
  EXPECT_TRUE(error_of("{% for %}").ends_with("; need valid Jinja"));
}

/// Templates that nest as deep as one can, each in another way.
std::vector<std::string> nested(int deep) {
  return {
      "{{ x" + repeated(".y", deep) + " }}",
      "{{ 1" + repeated("+1", deep) + " }}",
      "{{ 1" + repeated("|e", deep) + " }}",
      "{{ " + repeated("(", deep) + " }}",
      "{{ " + repeated("[", deep) + " }}",
      "{{ " + repeated("not ", deep) + "1 }}",
      "{{ " + repeated("-", deep) + "1 }}",
      "{{ 1" + repeated("~1", deep) + " }}",
      "{{ 1" + repeated("[0]", deep) + " }}",
      "{{ 1" + repeated(" if 1", deep) + " }}",
      repeated("{% if 1 %}", deep),
      "{% if 1 %}" + repeated("{%elif 1%}", deep) + "{% endif %}",
  };
}

TEST(ChatLimits, DeepNestingDoesNotOverflowTheStack) {
  for (const int deep : {100, 4000, 40000, 60000, 131000}) {
    for (const std::string& chat_template : nested(deep)) {
      EXPECT_FALSE(error_of(chat_template).empty()) << deep << chat_template.substr(0, 20);
    }
  }
}

TEST(ChatLimits, OddCallsEnd) {
  EXPECT_EQ(error_of("{{ 'abc'.count('') }}"), "rendered 1 bytes");
  EXPECT_EQ(error_of("{{ 'abc'.replace('', '-') }}"), "rendered 7 bytes");
  EXPECT_EQ(error_of(""), "rendered 0 bytes");
  EXPECT_EQ(error_of("{{ strftime_now('%Y-%m-%d') }}"), "rendered 10 bytes");
  EXPECT_EQ(error_of("{{ strftime_now('%99999999Y') }}"), "rendered 0 bytes");
}

}  // namespace
}  // namespace foveal::tokenizer
