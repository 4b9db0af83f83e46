#include "debug/machine_target.h"

#include <array>
#include <vector>

#include "debug/machine_fixture.h"

namespace doppel::debug {
namespace {

class MachineTargetTest : public test::MachineTest {
 protected:
  MachineTargetTest() {
    target.set_stop_listener([this](const Stop& stop) {
      const std::lock_guard lock(mutex_);
      stop_ = stop;
      changed_.notify_all();
    });
  }

  ~MachineTargetTest() override { target.set_stop_listener({}); }

  Stop wait_for_stop() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stop_.has_value(); });
    return *std::exchange(stop_, std::nullopt);
  }
  Stop resume_and_wait(ResumeAction action, const std::vector<StopPoint>& points) {
    target.resume(std::array{action, ResumeAction::Stay}, points);
    return wait_for_stop();
  }
  static StopPoint breakpoint(std::uint64_t address) { return {StopPoint::Kind::SoftwareBreakpoint, address, 1}; }
  std::uint64_t counter() {
    std::uint64_t value = 0;
    EXPECT_TRUE(target.read_memory(0, kCounter, std::as_writable_bytes(std::span{&value, 1})));
    return value;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Stop> stop_;
};

TEST_F(MachineTargetTest, StopsBetweenTwoInstructions) {
  target.stop();
  const std::uint64_t rip = target.registers(0).rip;
  EXPECT_TRUE(rip == kLoop || rip == kStore || rip == kNop || rip == kJump) << std::hex << rip;
  EXPECT_EQ(target.registers(1).activity, x86::Activity::WaitForSipi);
  const std::uint64_t before = counter();
  EXPECT_EQ(counter(), before) << "it stands still";
}

TEST_F(MachineTargetTest, BreakpointsStopBeforeTheirInstruction) {
  target.stop();
  const Stop stop = resume_and_wait(ResumeAction::Continue, {breakpoint(kNop)});
  EXPECT_EQ(stop.reason, Stop::Reason::Breakpoint);
  EXPECT_EQ(stop.vcpu, 0U);
  EXPECT_EQ(stop.address, kNop);
  EXPECT_EQ(target.registers(0).rip, kNop);
  EXPECT_EQ(counter(), target.registers(0).gpr[x86::kRax]);
}

TEST_F(MachineTargetTest, StepsOneInstructionEvenOffABreakpoint) {
  target.stop();
  resume_and_wait(ResumeAction::Continue, {breakpoint(kStore)});
  const std::uint64_t before = counter();
  for (const std::uint64_t next : {kNop, kJump, kLoop, kStore}) {
    const Stop stop = resume_and_wait(ResumeAction::Step, {breakpoint(kStore)});
    EXPECT_EQ(target.registers(0).rip, next);
    EXPECT_EQ(stop.reason, next == kStore ? stop.reason : Stop::Reason::Stepped);
  }
  EXPECT_EQ(counter(), before + 1);
}

TEST_F(MachineTargetTest, WatchpointsStopAfterTheAccess) {
  target.stop();
  const std::uint64_t before = counter();
  const Stop stop = resume_and_wait(ResumeAction::Continue, {{StopPoint::Kind::WriteWatch, kCounter, 8}});
  EXPECT_EQ(stop.reason, Stop::Reason::Watchpoint);
  EXPECT_EQ(stop.address, kCounter);
  EXPECT_EQ(target.registers(0).rip, kNop);
  EXPECT_GT(counter(), before);
}

TEST_F(MachineTargetTest, RegistersCanBeSet) {
  target.stop();
  resume_and_wait(ResumeAction::Continue, {breakpoint(kLoop)});
  x86::CpuState state = target.registers(0);
  state.gpr[x86::kRax] = 0x1234'5678;
  target.set_registers(0, state);
  resume_and_wait(ResumeAction::Continue, {breakpoint(kNop)});
  EXPECT_EQ(counter(), 0x1234'5679U);
}

TEST_F(MachineTargetTest, WrittenCodeIsExecuted) {
  target.stop();
  resume_and_wait(ResumeAction::Continue, {breakpoint(kLoop)});
  const std::array code{std::byte{0x31}, std::byte{0xC0}, std::byte{0x90}};  // xor eax, eax; nop
  EXPECT_TRUE(target.write_memory(0, kLoop, code));
  resume_and_wait(ResumeAction::Continue, {breakpoint(kNop)});
  EXPECT_EQ(counter(), 0U);
}

TEST_F(MachineTargetTest, MemoryThatIsNotMappedIsRefused) {
  target.stop();
  std::array<std::byte, 8> bytes{};
  EXPECT_FALSE(target.read_memory(0, 0xFFFF'8000'0000'0000, bytes));
  EXPECT_FALSE(target.write_memory(0, 0xFFFF'8000'0000'0000, bytes));
}

TEST_F(MachineTargetTest, AHeldProcessorStaysWhereItIs) {
  target.stop();
  resume_and_wait(ResumeAction::Continue, {breakpoint(kLoop)});
  const std::uint64_t before = counter();
  target.resume(std::array{ResumeAction::Stay, ResumeAction::Continue}, {});
  target.stop();
  EXPECT_EQ(target.registers(0).rip, kLoop);
  EXPECT_EQ(counter(), before);
}

}  // namespace
}  // namespace doppel::debug
