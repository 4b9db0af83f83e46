#include <atomic>
#include <random>
#include <thread>
#include <tuple>

#include "engine/guest_program.h"

/// Whatever a guest executes, in whatever mode: it may end in its own faults, never in ours. Meant for the sanitizers.
namespace doppel::engine::test {
namespace {

enum class CodeMode { Real, Protected16, Protected32, Virtual8086, Compatibility, Long };

/// Remembers nothing, however much is written, and lets no repeated port instruction run on.
class ForgetfulIo : public x86::test::FakeIo {
 public:
  explicit ForgetfulIo(x86::Attention& attention) : attention_(attention) {}
  void port_out(std::uint16_t, unsigned, std::uint32_t) override { attention_.set(x86::Attention::kInterrupt); }
  std::uint32_t port_in(std::uint16_t, unsigned) override {
    attention_.set(x86::Attention::kInterrupt);
    return 0;
  }
  std::uint64_t mmio_read(std::uint64_t, unsigned) override { return ~std::uint64_t{0}; }
  void mmio_write(std::uint64_t, unsigned, std::uint64_t) override {}

 private:
  x86::Attention& attention_;
};

class RandomCode : public GuestProgram, public ::testing::WithParamInterface<std::tuple<EngineName, CodeMode>> {
 protected:
  RandomCode() : GuestProgram(std::get<EngineName>(GetParam())) {}

  std::mt19937_64 random_{99};
  ForgetfulIo forgetful_io_{attention};

  void SetUp() override {
    vcpu.reset();  // one processor at a time to an Attention
    vcpu = engine->create_vcpu({memory, forgetful_io_, clock, cpuid, attention});
  }

  void enter_mode() {
    state = long_mode(memory);
    install_handlers(memory, state);
    // The program may have changed the tables; faults that cannot be delivered end it as well.
    for (unsigned i = 0; i < 16; ++i) {
      if (i != x86::kRsp) state.gpr[i] = random_() % 3 == 0 ? random_() : kDataAddress + random_() % 0x10000;
    }
    for (x86::Ymm& ymm : state.ymm) {
      for (std::uint64_t& value : ymm.qword) value = random_();
    }
    state.set_rflags(random_() & (x86::rflags::kStatus | x86::rflags::kDf));
    const CodeMode mode = std::get<CodeMode>(GetParam());
    if (mode == CodeMode::Long) return;
    Segment& cs = state.seg(SegReg::Cs);
    cs = flat_segment(0x08, true, false);
    if (mode == CodeMode::Compatibility) return;
    state.efer = 0;
    state.cr0 &= ~x86::cr0::kPg;
    if (mode == CodeMode::Protected32) return;
    if (mode == CodeMode::Protected16) {
      cs.attributes &= ~Segment::kDb;
      cs.base = kCodeAddress;
      cs.limit = 0xFFFF;
      state.rip = 0;
      return;
    }
    for (Segment& segment : state.segment) {
      segment = Segment{};
      segment.limit = 0xFFFF;
      segment.attributes = 0x93;
    }
    cs.base = 0xF'0000;
    cs.selector = 0xF000;
    cs.attributes = 0x9B;
    state.rip = 0;
    state.gpr[x86::kRsp] = 0x8000;
    if (mode == CodeMode::Real) {
      state.cr0 &= ~x86::cr0::kPe;
    } else {
      for (Segment& segment : state.segment) segment.attributes = 0xF3;
      state.rflags_without_of |= x86::rflags::kVm;
    }
  }

  std::vector<std::byte> random_bytes(std::size_t count) {
    std::vector<std::byte> bytes(count);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random_());
    return bytes;
  }
};

TEST_P(RandomCode, harms_nobody) {
  constexpr unsigned kPrograms = 1500, kSteps = 30;
  DebugRequest steps;
  steps.single_step = true;
  unsigned executed = 0;
  for (unsigned program = 0; program < kPrograms; ++program) {
    enter_mode();
    const std::uint64_t code = state.code_64() ? state.rip : state.seg(SegReg::Cs).base + state.rip;
    place(code, random_bytes(256));
    vcpu->load(state);
    vcpu->set_debug(steps);
    for (unsigned step = 0; step < kSteps; ++step) {
      if (vcpu->run().reason != ExitReason::Stepped) break;
      ++executed;
    }
  }
  EXPECT_GT(executed, kPrograms);
}

/// The same in blocks: the timer of a thread stops programs that do not end by a fault of their own.
TEST_P(RandomCode, harms_nobody_at_full_speed) {
  constexpr unsigned kPrograms = 60;
  for (unsigned program = 0; program < kPrograms; ++program) {
    enter_mode();
    state.idtr.limit = 0;
    const std::uint64_t code = state.code_64() ? state.rip : state.seg(SegReg::Cs).base + state.rip;
    place(code, random_bytes(256));
    vcpu->load(state);
    std::atomic<bool> done = false;
    std::thread stopper([&] {
      // It ends by itself mostly at once, or else never.
      for (unsigned spins = 0; spins < 20 && !done; ++spins) std::this_thread::yield();
      attention.set(x86::Attention::kStop);
    });
    const ExitReason reason = vcpu->run().reason;
    done = true;
    stopper.join();
    attention.clear(~0U);
    EXPECT_TRUE(reason == ExitReason::Shutdown || reason == ExitReason::Stopped || reason == ExitReason::Halted);
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, RandomCode,
                         ::testing::Combine(::testing::Values(EngineName::interp, EngineName::dbt),
                                            ::testing::Values(CodeMode::Real, CodeMode::Protected16,
                                                              CodeMode::Protected32, CodeMode::Virtual8086,
                                                              CodeMode::Compatibility, CodeMode::Long)));

}  // namespace
}  // namespace doppel::engine::test
