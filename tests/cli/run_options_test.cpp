#include "cli/run_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/fd.h"
#include "base/temporary_directory.h"
#include "boot/embedded_guest.h"

namespace doppel::cli {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

std::string error_of(const RunOptions& options) {
  const auto config = make_config(options, {});
  return config ? "" : config.error().message;
}

TEST(MakeConfig, RefusesImpossibleValuesInOneLine) {
  struct Case {
    std::string expected;
    std::function<void(RunOptions&)> change;
  };
  const std::vector<Case> cases{
      {"at least 64M", [](RunOptions& o) { o.memory = "63M"; }},
      {"built-in guest needs at least 80M", [](RunOptions& o) { o.memory = "64M"; }},
      {"use less", [](RunOptions& o) { o.memory = "1000T"; }},
      {"not a size", [](RunOptions& o) { o.memory = "lots"; }},
      {"1 to 16 processors", [](RunOptions& o) { o.cpus = "0"; }},
      {"1 to 16 processors", [](RunOptions& o) { o.cpus = "17"; }},
      {"1 to 16 processors", [](RunOptions& o) { o.cpus = "2x"; }},
      {"there are auto, dbt, interp", [](RunOptions& o) { o.engine = "warp"; }},
      {"--code-cache: \"8\" is not a size", [](RunOptions& o) { o.code_cache = "8"; }},
      {"takes 1M to 1G", [](RunOptions& o) { o.code_cache = "512K"; }},
      {"takes 1M to 1G", [](RunOptions& o) { o.code_cache = "2G"; }},
      {"the interpreter keeps no code",
       [](RunOptions& o) {
         o.engine = "interp";
         o.code_cache = "8M";
       }},
      {"cannot be a machine's name", [](RunOptions& o) { o.name = "../etc"; }},
      {"No such file", [](RunOptions& o) { o.kernel = "/nonexistent/bzImage"; }},
      {"is a directory", [](RunOptions& o) { o.kernel = "/tmp"; }},
      {"NUL", [](RunOptions& o) { o = {.command = std::string("a\0b", 3)}; }},
      {"No such file", [](RunOptions& o) { o.initrds = {"/nonexistent/initrd"}; }},
      {"No such file", [](RunOptions& o) { o.modules = {"/nonexistent/module with arguments"}; }},
  };
  for (const Case& c : cases) {
    RunOptions options;
    c.change(options);
    const std::string error = error_of(options);
    if (!boot::embedded_guest().present() && error.find("built without") != std::string::npos) continue;
    EXPECT_THAT(error, HasSubstr(c.expected));
    EXPECT_EQ(error.find('\n'), std::string::npos);
  }
}

TEST(MakeConfig, RefusesFilesThatAreNoKernels) {
  const test::TemporaryDirectory directory;
  const std::string path = directory / "file";
  RunOptions options;
  options.kernel = path;
  ASSERT_TRUE(write_file_atomically(path, {}));
  EXPECT_THAT(error_of(options), HasSubstr("is empty"));
  const std::string text = "#!/bin/sh\n";
  ASSERT_TRUE(write_file_atomically(path, std::as_bytes(std::span{text})));
  EXPECT_THAT(error_of(options), testing::StartsWith(path));
}

class EmbeddedGuest : public testing::Test {
 protected:
  void SetUp() override {
    if (!boot::embedded_guest().present()) GTEST_SKIP() << "built without the embedded guest";
  }
  machine::MachineConfig config(const RunOptions& options, const TerminalFacts& terminal = {}) {
    auto made = make_config(options, terminal);
    EXPECT_TRUE(made) << made.error().message;
    return made ? *std::move(made) : machine::MachineConfig{};
  }
};

TEST_F(EmbeddedGuest, IsTheDefaultWithAShellThatFitsTheTerminal) {
  EXPECT_EQ(config({}).command_line, "console=ttyS0 quiet TERM=dumb");
  EXPECT_EQ(config({}, {.size = "91x33", .type = "xterm-256color"}).command_line,
            "console=ttyS0 quiet doppel.size=91x33 TERM=xterm-256color");
  EXPECT_THAT(config({}, {.size = {}, .type = "x init=/bin/evil"}).command_line, EndsWith(" TERM=dumb"));
  EXPECT_THAT(config({.append = "debug"}).command_line, EndsWith(" debug"));
  EXPECT_TRUE(runs_embedded_shell({}));
}

TEST_F(EmbeddedGuest, GetsTheCommandAsASecondArchive) {
  const RunOptions options{.command = "true"};
  const auto made = config(options);
  ASSERT_EQ(made.initrds.size(), 2U);
  EXPECT_EQ(made.initrds[0].bytes.size() % 4, 0U);
  EXPECT_TRUE(made.no_reboot) << "a command runs once";
  EXPECT_FALSE(runs_embedded_shell(options));
}

TEST_F(EmbeddedGuest, TakesMemoryAndProcessors) {
  RunOptions options;
  options.memory = "100.5M";
  options.cpus = "4";
  EXPECT_EQ(config(options).memory_bytes, std::uint64_t{100} << 20);
  EXPECT_EQ(config(options).cpus, 4U);
}

TEST_F(EmbeddedGuest, AnotherKernelGetsExactlyItsCommandLine) {
  const test::TemporaryDirectory directory;
  const boot::EmbeddedGuest guest = boot::embedded_guest();
  ASSERT_TRUE(write_file_atomically(directory / "bzImage", guest.kernel));
  RunOptions options;
  options.kernel = directory / "bzImage";
  EXPECT_EQ(config(options).command_line, "console=ttyS0");
  EXPECT_TRUE(config(options).initrds.empty());
  EXPECT_EQ(config({.kernel = options.kernel, .append = "console=tty0 single"}).command_line, "console=tty0 single");
  EXPECT_EQ(config({.kernel = options.kernel, .command = "true"}).initrds.size(), 2U)
      << "the embedded userland, and the command";
}

}  // namespace
}  // namespace doppel::cli
