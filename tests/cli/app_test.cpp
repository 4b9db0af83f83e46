#include "cli/app.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/temporary_directory.h"
#include "base/version.h"

namespace doppel::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

struct Finished {
  int status;
  std::string output, errors;
};

Finished run(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "doppel");
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const int status = run_program(static_cast<int>(arguments.size()), arguments.data());
  std::fflush(stdout);
  std::fflush(stderr);
  return {status, testing::internal::GetCapturedStdout(), testing::internal::GetCapturedStderr()};
}

class App : public testing::Test {
 protected:
  void SetUp() override { ::setenv("XDG_RUNTIME_DIR", directory_.path().c_str(), 1); }
  void TearDown() override { ::unsetenv("XDG_RUNTIME_DIR"); }
  test::TemporaryDirectory directory_;
};

TEST_F(App, BadUsageIsOneLineThatSaysWhatToDo) {
  struct Case {
    std::string expected;
    std::vector<const char*> arguments;
  };
  const std::vector<Case> cases{
      {"no command given; see doppel --help", {}},
      {"unknown command dance; see doppel --help", {"dance"}},
      {"unknown option --dance; see doppel run --help", {"run", "--dance"}},
      {"unknown option --dance; see doppel --help", {"--dance"}},
      {"see doppel run --help", {"run", "--memory"}},
      {"unknown argument b; see doppel run --help", {"run", "a", "b"}},
      {"such as 512M or 2G", {"run", "--memory", "512"}},
      {"1 to 16", {"run", "--cpus", "99"}},
      {"NAME is required; see doppel stop --help", {"stop"}},
      {"see doppel completion --help", {"completion", "tcsh"}},
      {"leave --detach out", {"run", "--detach", "-c", "true"}},
      {"add --gdb :1234", {"run", "--gdb-wait"}},
      {"--jail maybe: use on or off", {"run", "--jail", "maybe"}},
      {"No such file", {"run", "/nonexistent"}},
  };
  for (const Case& c : cases) {
    const Finished result = run(c.arguments);
    EXPECT_EQ(result.status, 2) << c.expected;
    EXPECT_THAT(result.errors, HasSubstr(c.expected));
    EXPECT_EQ(std::ranges::count(result.errors, '\n'), 1) << result.errors;
    EXPECT_EQ(result.output, "");
  }
}

TEST_F(App, HelpTeachesWithExamples) {
  const Finished help = run({"--help"});
  EXPECT_EQ(help.status, 0);
  EXPECT_THAT(help.output, HasSubstr("Examples:\n  doppel run"));
  for (const char* command :
       {"run", "ps", "console", "logs", "pause", "resume", "stop", "kill", "inspect", "stats", "image"}) {
    EXPECT_THAT(help.output, HasSubstr(std::string("\n  ") + command + " "));
    const Finished own = run({command, "--help"});
    EXPECT_EQ(own.status, 0) << command;
    EXPECT_THAT(own.output, HasSubstr("Usage: doppel " + std::string(command)));
    EXPECT_THAT(own.output, Not(HasSubstr("boot the built-in Linux to a shell"))) << command;
  }
  const Finished run_help = run({"run", "--help"});
  EXPECT_THAT(run_help.output, HasSubstr("Exit status:"));
  for (const char* option : {"--command", "--initrd", "--append", "--module", "--memory", "--cpus", "--engine",
                             "--name", "--detach", "--no-reboot", "--gdb", "--gdb-wait", "--log", "--log-file"}) {
    EXPECT_THAT(run_help.output, HasSubstr(std::string(option) + " "));
  }
}

TEST_F(App, TellsItsVersion) {
  const Finished result = run({"--version"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.output, "doppel " + std::string(version()) + "\n");
}

TEST_F(App, ListsNothingWhenNothingRuns) {
  EXPECT_THAT(run({"ps"}).output, testing::StartsWith("NAME "));
  EXPECT_EQ(run({"ps", "--json"}).output, "[]\n");
  EXPECT_EQ(run({"ps", "-q"}).output, "");
}

TEST_F(App, UnknownMachinesAreFailures) {
  for (const char* command : {"stop", "kill", "pause", "resume", "console", "logs", "inspect", "stats"}) {
    const Finished result = run({command, "nobody"});
    EXPECT_EQ(result.status, 1) << command;
    EXPECT_THAT(result.errors, HasSubstr("no machine named nobody is running"));
  }
}

TEST_F(App, CompletionKnowsEveryCommandAndOption) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const std::string script = run({"completion", shell}).output;
    for (const char* word :
         {"run", "inspect", "memory", "detach", "follow", "doppel ps -q", "image", "rebase", "backing"}) {
      EXPECT_THAT(script, HasSubstr(word)) << shell;
    }
  }
  EXPECT_THAT(run({"completion", "bash"}).output, HasSubstr("--gdb-wait"));
}

}  // namespace
}  // namespace doppel::cli
