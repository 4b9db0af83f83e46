// `doppel run` as its user meets it: one command, ends of all kinds, input and output.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "guest/doppel_process.h"

namespace doppel::test {
namespace {

using testing::HasSubstr;

TEST(Run, ACommandsOutputAloneIsOnStdoutAndItsStatusIsOurs) {
  const RunResult result = run_doppel({"run", "-c", "echo out; echo err >&2; exit 42"});
  EXPECT_EQ(result.output, "out\n");
  EXPECT_EQ(result.errors, "err\n");
  EXPECT_EQ(result.status, 42);
}

TEST(Run, ACommandReadsStdinUntilItsEndWhateverTheBytes) {
  std::string bytes;
  for (int i = 0; i < 5000; ++i) bytes += static_cast<char>(i * 7);
  const RunResult result = run_doppel({"run", "-c", "cat"}, bytes);
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_EQ(result.output, bytes);
}

// More than Linux buffers for a terminal: it came without a pause, and what no program could read meanwhile was lost.
TEST(Run, ACommandReadsALargeInputWhole) {
  std::string bytes;
  for (unsigned i = 0; bytes.size() < 1'500'000; i = i * 1664525 + 1013904223) bytes += static_cast<char>(i >> 24);
  const RunResult result = run_doppel({"run", "-c", "cat"}, bytes);
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_TRUE(result.output == bytes) << result.output.size();
}

// The shell opens the command's pipes while the reader of an empty input ends, which interrupted it once in ten starts.
TEST(Run, ACommandStartsThoughItsInputEndsAtOnce) {
  constexpr int kRounds = 3;
  constexpr int kAtOnce = 4;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<std::unique_ptr<DoppelProcess>> machines;
    for (int i = 0; i < kAtOnce; ++i) {
      machines.push_back(std::make_unique<DoppelProcess>(std::vector<std::string>{"run", "-c", "echo ran"}));
      machines.back()->close_input();
    }
    for (const auto& machine : machines) {
      EXPECT_EQ(machine->wait(), 0) << machine->errors();
      EXPECT_EQ(machine->output(), "ran\n");
    }
  }
}

TEST(Run, TheLeastMemoryIsEnough) {
  const RunResult result = run_doppel({"run", "--memory", "80M", "-c", "echo up"});
  EXPECT_EQ(result.output, "up\n") << result.errors;
}

TEST(Run, RebootStartsTheMachineAgain) {
  DoppelProcess doppel({"run"});
  ASSERT_TRUE(doppel.expect("# ")) << doppel.output() << doppel.errors();
  doppel.send("reboot\n");
  ASSERT_TRUE(doppel.expect("# ")) << doppel.output() << doppel.errors();
  doppel.send("echo mark-$((6*7)); reboot -f\n");
  ASSERT_TRUE(doppel.expect("mark-42")) << doppel.output();
  ASSERT_TRUE(doppel.expect("# ")) << doppel.output();
  doppel.send("poweroff\n");
  EXPECT_EQ(doppel.wait(), 0) << doppel.errors();
}

TEST(Run, NoRebootEndsInstead) {
  DoppelProcess doppel({"run", "--no-reboot"});
  ASSERT_TRUE(doppel.expect("# ")) << doppel.output() << doppel.errors();
  doppel.send("reboot\n");
  EXPECT_EQ(doppel.wait(), 0) << doppel.errors();
}

TEST(Run, APanicIsReportedPlainly) {
  DoppelProcess doppel({"run"});
  ASSERT_TRUE(doppel.expect("# ")) << doppel.output() << doppel.errors();
  doppel.send("echo c > /proc/sysrq-trigger\n");
  EXPECT_EQ(doppel.wait(), 120) << doppel.output();
  EXPECT_THAT(doppel.errors(), HasSubstr("panic"));
}

TEST(Run, TheConsoleQuitsOnItsEscape) {
  DoppelProcess doppel({"run"}, DoppelProcess::Terminal::Pty);
  ASSERT_TRUE(doppel.expect("# ")) << doppel.output() << doppel.errors();
  doppel.send("\x01x");
  EXPECT_EQ(doppel.wait(), 0) << doppel.errors();
}

TEST(Run, ManyProcessorsAllTakePart) {
  const RunResult result =
      run_doppel({"run", "--cpus", "16", "--memory", "1G", "-c",
                  "nproc; for i in $(seq 16); do (taskset -p $$ >/dev/null; true) & done; wait; echo done"});
  EXPECT_EQ(result.output, "16\ndone\n") << result.errors;
  EXPECT_EQ(result.status, 0);
}

struct BadUse {
  const char* name;
  std::vector<std::string> arguments;
  const char* says;
};

class RunRefuses : public testing::TestWithParam<BadUse> {};

TEST_P(RunRefuses, InOneLineThatSaysWhatToDo) {
  const RunResult result = run_doppel(GetParam().arguments);
  EXPECT_EQ(result.status, 2) << result.errors;
  EXPECT_THAT(result.errors, HasSubstr(GetParam().says));
  EXPECT_EQ(result.errors.find('\n'), result.errors.size() - 1) << result.errors;
  EXPECT_EQ(result.output, "");
}

INSTANTIATE_TEST_SUITE_P(BadUses, RunRefuses,
                         testing::Values(BadUse{"MissingFile", {"run", "/no/such/kernel"}, "/no/such/kernel"},
                                         BadUse{"NotAKernel", {"run", "/etc/passwd"}, "/etc/passwd"},
                                         BadUse{"ADirectory", {"run", "/etc"}, "/etc"},
                                         BadUse{"TooLittleMemory", {"run", "--memory", "1M"}, "64"},
                                         BadUse{"NoSuchSize", {"run", "--memory", "lots"}, "lots"},
                                         BadUse{"TooManyCpus", {"run", "--cpus", "17"}, "16"},
                                         BadUse{"NoSuchEngine", {"run", "--engine", "warp"}, "warp"},
                                         BadUse{"UnknownOption", {"run", "--frobnicate"}, "--frobnicate"}),
                         [](const testing::TestParamInfo<BadUse>& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace doppel::test
