#include <gmock/gmock.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "debug/fake_target.h"
#include "debug/gdb_server.h"
#include "debug/machine_fixture.h"

namespace doppel::debug {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

bool gdb_is_installed() {
  return std::system("gdb --version >/dev/null 2>&1") == 0;
}

/// What GDB prints when it has connected and executed the commands.
std::string run_gdb(std::uint16_t port, std::initializer_list<std::string_view> commands) {
  std::string line = "gdb -nx -batch -ex 'set confirm off' -ex 'target remote 127.0.0.1:" + std::to_string(port) + "'";
  for (const std::string_view command : commands) line += " -ex '" + std::string{command} + "'";
  std::FILE* pipe = ::popen((line + " 2>&1").c_str(), "r");
  std::string output;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) output += static_cast<char>(c);
  EXPECT_EQ(::pclose(pipe), 0) << output;
  return output;
}

/// GDB itself, where it is installed, against a running machine.
class Gdb : public test::MachineTest {
 protected:
  void SetUp() override {
    if (!gdb_is_installed()) GTEST_SKIP() << "gdb is not installed";
    auto made = GdbServer::listen(":0", target);
    ASSERT_TRUE(made) << made.error().message;
    server = std::move(made).value();
  }

  std::string run(std::initializer_list<std::string_view> commands) { return run_gdb(server->port(), commands); }

  std::unique_ptr<GdbServer> server;
};

TEST_F(Gdb, ReadsRegistersMemoryAndCode) {
  const std::string output =
      run({"info registers rip cs cr0 efer", "p $xmm0", "p $ymm0", "p $st0", "x/2i 0x1000200", "info threads"});
  EXPECT_THAT(output, ContainsRegex("rip +0x10002"));
  EXPECT_THAT(output, ContainsRegex("cr0 +0x[0-9a-f]+ +\\[ PE"));
  EXPECT_THAT(output, HasSubstr("LMA"));
  EXPECT_THAT(output, HasSubstr("v4_float"));
  EXPECT_THAT(output, HasSubstr("v8_float"));
  EXPECT_THAT(output, HasSubstr("inc    %rax"));
  EXPECT_THAT(output, ContainsRegex("Thread 2.*waiting for SIPI"));
}

TEST_F(Gdb, BreaksStepsAndWatches) {
  const std::string output =
      run({"break *0x100020b", "continue", "stepi", "p/x $pc", "stepi", "p/x $pc", "delete", "watch *(long*)0x1000800",
           "continue", "rwatch *(int*)0x1000900", "hbreak *0x1000200", "continue", "info breakpoints"});
  EXPECT_THAT(output, HasSubstr("Breakpoint 1, 0x000000000100020b"));
  EXPECT_THAT(output, HasSubstr("$1 = 0x100020c"));
  EXPECT_THAT(output, HasSubstr("$2 = 0x1000200"));
  EXPECT_THAT(output, HasSubstr("Hardware watchpoint 2: *(long*)0x1000800"));
  EXPECT_THAT(output, HasSubstr("New value = "));
}

TEST_F(Gdb, ChangesRegistersAndMemory) {
  const std::string output =
      run({"break *0x1000200", "continue", "set $rax = 41", "set $xmm1.uint128 = 7", "p $xmm1.v4_int32[0]",
           "break *0x100020b", "continue", "x/dg 0x1000800", "set *(char*)0x1000900 = 99", "x/db 0x1000900"});
  EXPECT_THAT(output, HasSubstr("= 7"));
  EXPECT_THAT(output, ContainsRegex("0x1000800:\t42"));
  EXPECT_THAT(output, ContainsRegex("0x1000900:\t99"));
}

TEST_F(Gdb, MonitorCommands) {
  const std::string output = run({"monitor info registers", "monitor info cpus", "monitor help"});
  EXPECT_THAT(output, HasSubstr("CPU 0, running, 64-bit mode, CPL 0"));
  EXPECT_THAT(output, HasSubstr("GDT     base"));
}

TEST_F(Gdb, DetachingLeavesTheGuestRunning) {
  const auto counter = [this] {
    const std::string output = run({"x/dg 0x1000800", "detach"});
    return std::stoll(output.substr(output.find("0x1000800:") + 10));
  };
  const long long before = counter();
  while (counter() == before) {
  }
}

TEST(GdbOfA32BitGuest, KnowsItsRegisters) {
  if (!gdb_is_installed()) GTEST_SKIP() << "gdb is not installed";
  test::FakeTarget target{1};
  target.states[0].efer = 0;
  target.states[0].rip = 0xC010'0000;
  target.states[0].gpr[x86::kRcx] = 0x1122'3344;
  auto server = GdbServer::listen(":0", target);
  ASSERT_TRUE(server) << server.error().message;
  const std::string output = run_gdb((*server)->port(), {"show architecture", "info registers ecx eip cr3", "p $xmm7"});
  EXPECT_THAT(output, HasSubstr("\"i386\""));
  EXPECT_THAT(output, ContainsRegex("ecx +0x11223344"));
  EXPECT_THAT(output, ContainsRegex("eip +0xc0100000"));
  EXPECT_THAT(output, HasSubstr("v4_float"));
}

}  // namespace
}  // namespace doppel::debug
