#include "cli/session.h"

#include <asmjit/x86.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/temporary_directory.h"
#include "boot/kernel_images.h"
#include "boot/platform_layout.h"
#include "cli/child.h"
#include "cli/run.h"
#include "control/registry.h"
#include "control/unix_socket.h"

namespace doppel::cli {
namespace {

namespace layout = boot::layout;
namespace r = asmjit::x86;
using asmjit::Label;
using asmjit::x86::Assembler;
using test::Child;
using testing::HasSubstr;

void out(Assembler& a, std::uint16_t port, std::uint16_t value, unsigned size = 1) {
  a.mov(r::edx, port);
  a.mov(r::eax, value);
  if (size == 1) {
    a.out(r::dx, r::al);
  } else {
    a.out(r::dx, r::ax);
  }
}

/// A kernel that says "ready", echoes what comes on COM1, and ends in a way of its own at each of a few letters; a
/// break is echoed as 'B'.
void write_program(Assembler& a) {
  constexpr std::uint16_t kCom1 = layout::kSerial[0].base, kModemControl = kCom1 + 4, kLineStatus = kCom1 + 5;
  constexpr std::uint16_t kSleepEnable = 1 << 13, kBreak = 0x10, kDataReady = 0x01;
  out(a, kModemControl, 3);  // DTR and RTS: somebody listens
  for (const char c : std::string_view("ready\n")) out(a, kCom1, static_cast<std::uint8_t>(c));
  const Label loop = a.newLabel(), echo = a.newLabel(), no_break = a.newLabel();
  a.bind(loop);
  a.mov(r::edx, kLineStatus);
  a.in(r::al, r::dx);
  a.test(r::al, kDataReady);
  a.jz(loop);
  a.mov(r::ebx, r::eax);
  a.mov(r::edx, kCom1);
  a.in(r::al, r::dx);
  a.test(r::bl, kBreak);
  a.jz(no_break);
  a.mov(r::al, 'B');
  a.jmp(echo);
  a.bind(no_break);
  const auto at_letter = [&](char letter, const auto& what) {
    const Label next = a.newLabel();
    a.cmp(r::al, letter);
    a.jne(next);
    what();
    a.jmp(loop);
    a.bind(next);
  };
  at_letter('q', [&] { out(a, layout::kPm1aControl, layout::kSleepTypeS5 << 10 | kSleepEnable, 2); });
  at_letter('p', [&] { out(a, layout::kPvPanic, 1); });
  at_letter('e', [&] { out(a, layout::kDebugExit, 3); });
  at_letter('t', [&] { a.ud2(); });
  at_letter('r', [&] { out(a, layout::kResetControl, layout::kResetValue); });
  at_letter('k', [&] {
    for (const char c : std::string_view("---[ end Kernel panic - not syncing: no hope ]---\n"))
      out(a, kCom1, static_cast<std::uint8_t>(c));
  });
  a.bind(echo);
  a.out(r::dx, r::al);
  a.jmp(loop);
}

class SessionTest : public testing::Test {
 protected:
  SessionTest() {
    ::setenv("XDG_RUNTIME_DIR", directory_.path().c_str(), 1);
    ::setenv("XDG_STATE_HOME", (directory_ / "state").c_str(), 1);
    asmjit::CodeHolder code;
    code.init(asmjit::Environment(asmjit::Arch::kX64), 0x100'0200);
    Assembler assembler(&code);
    write_program(assembler);
    test::BzImage image;
    image.system = test::Bytes(8192, std::byte{0});
    std::vector<std::byte> bytes(code.codeSize());
    code.copyFlattenedData(bytes.data(), bytes.size());
    std::copy(bytes.begin(), bytes.end(), image.system.begin() + 0x200);
    EXPECT_TRUE(write_file_atomically(options_.kernel = directory_ / "kernel", image.build()));
    options_.memory = "64M";
    options_.name = "test";
  }
  ~SessionTest() override {
    ::unsetenv("XDG_RUNTIME_DIR");
    ::unsetenv("XDG_STATE_HOME");
  }
  /// The status with which a machine ends that is told so by `letter`, and what doppel has to say about it.
  std::pair<int, std::string> end_by(char letter) {
    Child child([this] { return run(options_); });
    EXPECT_EQ(child.read_until("ready\n"), "ready\n");
    child.send(std::string(1, letter));
    const int status = child.wait();
    return {status, child.errors()};
  }

  test::TemporaryDirectory directory_;
  RunOptions options_;
};

TEST_F(SessionTest, CarriesTheConsoleThroughPipes) {
  Child child([this] { return run(options_); });
  EXPECT_EQ(child.read_until("ready\n"), "ready\n");
  child.send("abc\n");
  EXPECT_EQ(child.read_until("\n"), "abc\n");
  child.send("\x01x\n");
  EXPECT_EQ(child.read_until("\n"), "\x01x\n") << "a pipe has no escape key";
  child.send("q");
  EXPECT_EQ(child.rest(), "");
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(child.errors(), "");
  EXPECT_FALSE(std::filesystem::exists(directory_ / "doppel/test")) << "the guardian has removed it";
}

TEST_F(SessionTest, EveryEndHasItsStatus) {
  EXPECT_EQ(end_by('q'), std::pair(0, std::string()));
  EXPECT_EQ(end_by('e'), std::pair(7, std::string()));
  const auto [panic, panic_text] = end_by('p');
  EXPECT_EQ(panic, 120);
  EXPECT_THAT(panic_text, HasSubstr("the guest's kernel panicked: no reason on its console"));
  const auto [report, report_text] = end_by('k');
  EXPECT_EQ(report, 120);
  EXPECT_THAT(report_text, HasSubstr("the guest's kernel panicked: no hope"));
  const auto [fault, fault_text] = end_by('t');
  EXPECT_EQ(fault, 121);
  EXPECT_THAT(fault_text, HasSubstr("triple fault"));
}

TEST_F(SessionTest, AResetStartsAgainUnlessItIsNotToBe) {
  Child child([this] { return run(options_); });
  EXPECT_EQ(child.read_until("ready\n"), "ready\n");
  child.send("r");
  EXPECT_EQ(child.read_until("ready\n"), "ready\n");
  child.send("q");
  EXPECT_EQ(child.wait(), 0);
  options_.no_reboot = true;
  EXPECT_EQ(end_by('r').first, 0);
}

TEST_F(SessionTest, SignalsEndTheMachine) {
  Child child([this] { return run(options_); });
  EXPECT_EQ(child.read_until("ready\n"), "ready\n");
  child.signal(SIGTERM);
  EXPECT_EQ(child.wait(), 128 + SIGTERM);
}

TEST_F(SessionTest, ATerminalHasEscapeKeys) {
  Child child([this] { return run(options_); }, Child::Terminal::Pty);
  EXPECT_EQ(child.read_until("ready\r\n"), "ready\r\n");
  child.send("\x03\x01\x01|");
  EXPECT_EQ(child.read_until("|"), "\x03\x01|");
  child.send(
      "\x01"
      "b");
  EXPECT_EQ(child.read_until("B"), "B") << "a break";
  child.send("\x01s\x01h\x01r");
  EXPECT_EQ(child.read_until("ready\r\n"), "ready\r\n") << "the reset button";
  child.send("\x01x");
  EXPECT_EQ(child.wait(), 0);
  const std::string shown = child.errors();
  EXPECT_THAT(shown, HasSubstr("test: Running, 1 processor, 64M of memory"));
  for (const char key : std::string_view("xspbcrdh")) EXPECT_THAT(shown, HasSubstr(std::string("Ctrl-a ") + key + ' '));
}

TEST_F(SessionTest, ADetachedMachinesLogOutlivesIt) {
  options_.detach = true;
  options_.log_level = "info";
  Child starter([this] { return run(options_); });
  EXPECT_EQ(starter.rest(), "test\n");
  EXPECT_EQ(starter.wait(), 0);
  const auto running = control::Registry(*control::runtime_directory()).find("test");
  ASSERT_TRUE(running) << running.error().message;
  const auto console = control::connect_unix(running->paths.console_socket());
  ASSERT_TRUE(console);
  ASSERT_EQ(::write(console->get(), "t", 1), 1);
  EXPECT_TRUE(control::wait_for_end(*running, 120'000));
  const auto log = read_file(directory_ / "state/doppel/test.log");
  ASSERT_TRUE(log) << log.error().message;
  EXPECT_THAT(std::string(reinterpret_cast<const char*>(log->data()), log->size()), HasSubstr("triple fault"));
}

TEST_F(SessionTest, TheGuestRunsInTheJail) {
  Child child([this] { return run(options_); });
  EXPECT_EQ(child.read_until("ready\n"), "ready\n");
  const auto running = control::Registry(*control::runtime_directory()).find("test");
  ASSERT_TRUE(running);
  const std::filesystem::path process = "/proc/" + std::to_string(running->pid);
  unsigned threads = 0;
  for (const auto& thread : std::filesystem::directory_iterator(process / "task")) {
    std::ifstream status(thread.path() / "status");
    const std::string text(std::istreambuf_iterator<char>(status), {});
    EXPECT_THAT(text, HasSubstr("Seccomp:\t2"));
    EXPECT_THAT(text, HasSubstr("NoNewPrivs:\t1"));
    ++threads;
  }
  EXPECT_GE(threads, 4U) << "the owner, the processor, two loops";
  child.send("q");
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(SessionTest, WithoutAJailItSaysSo) {
  options_.jail = "off";
  EXPECT_THAT(end_by('q'), testing::Pair(0, HasSubstr("no jail")));
}

}  // namespace
}  // namespace doppel::cli
