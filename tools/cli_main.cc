#include <fmt/format.h>

#include <csignal>
#include <exception>
#include <new>

#include "base/check.h"
#include "base/log.h"
#include "cli_help.h"
#include "cli_options.h"
#include "output.h"

namespace foveal::tools {
namespace {

std::string program_help(std::string_view version, std::span<const CommandEntry> commands) {
  std::string out = fmt::format(
      "foveal {}: large language models with sparse attention\n\nusage: foveal COMMAND [flags]\n\n",
      version);
  for (const CommandEntry& command : commands) out += help_row(command.name, command.summary);
  return out + "\nfoveal COMMAND --help lists the flags of a command.\n";
}

const CommandEntry& find_command(std::string_view name, std::span<const CommandEntry> commands) {
  std::string names;
  for (const CommandEntry& command : commands) {
    if (command.name == name) return command;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", command.name);
  }
  fail(ErrorKind::kInvalidArgument, "cli", "got {}; need one of {} (see foveal --help)",
       name.empty() ? "no command" : fmt::format("command '{}'", printable(name)), names);
}

int run_command(std::span<const std::string> args, std::string_view version,
                std::span<const CommandEntry> commands) {
  const std::string_view name = args.empty() ? std::string_view() : args.front();
  if (name == "--help" || name == "-h" || name == "help") {
    write_out(program_help(version, commands));
    return 0;
  }
  if (name == "--version") {
    write_out(fmt::format("foveal {}\n", version));
    return 0;
  }
  const CommandEntry& command = find_command(name, commands);
  return command.main(args.subspan(1));
}

// What shells show for a program that SIGPIPE ended, as it does others in such a pipe.
constexpr int kNoReaderStatus = 128 + SIGPIPE;

int report(std::string_view line, int status) {
  write_stderr(fmt::format("{}\n", line), /*transient=*/false);
  return status;
}

}  // namespace

int run_program(int argc, const char* const* argv, std::string_view version,
                std::span<const CommandEntry> commands) {
  guard_process();
  try {
    std::vector<std::string> args;
    for (int idx = 1; idx < argc; ++idx) args.emplace_back(argv[idx]);
    return run_command(args, version, commands);
  } catch (const NoReader&) {
    return kNoReaderStatus;
  } catch (const Error& error) {
    return report(error.what(), error.kind() == ErrorKind::kInvalidArgument ? 2 : 1);
  } catch (const std::bad_alloc&) {
    return report("[foveal] got no more memory; need more, or smaller sizes", 1);
  } catch (const std::exception& error) {
    return report(fmt::format("[foveal] got an unexpected error ({}); need a bug report",
                              printable(error.what(), 400)),
                  1);
  }
}

}  // namespace foveal::tools
