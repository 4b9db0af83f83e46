#pragma once

#include <nlohmann/json.hpp>
#include <optional>

#include "engine/long_mode.h"

namespace doppel::engine::test {

/// The engines that every host has; each test of what a guest can see runs on all of them.
enum class EngineName { interp, dbt };

inline std::unique_ptr<Engine> make_engine(EngineName name) {
  return name == EngineName::dbt ? std::move(make_translator()).value() : make_interpreter();
}

inline std::string engine_name(const ::testing::TestParamInfo<EngineName>& info) {
  return info.param == EngineName::dbt ? "dbt" : "interp";
}

/// Instantiates a TEST_P suite for each engine.
#define DOPPEL_TEST_ON_EACH_ENGINE(suite) \
  INSTANTIATE_TEST_SUITE_P(engine, suite, ::testing::Values(EngineName::interp, EngineName::dbt), engine_name)

/// Runs small programs, each ending with HLT, in 64-bit mode (or whatever the test makes of `state`).
class GuestProgram : public x86::test::CpuTest {
 protected:
  explicit GuestProgram(EngineName name) : engine(make_engine(name)) {}

  CpuState state = initial();
  std::unique_ptr<Engine> engine;
  std::unique_ptr<VcpuRunner> vcpu = engine->create_vcpu({memory, io, clock, cpuid, attention});

  void place(std::uint64_t address, std::span<const std::byte> bytes) { ASSERT_TRUE(memory.write(address, bytes)); }
  void place(std::uint64_t address, std::initializer_list<unsigned> bytes) {
    for (const unsigned byte : bytes) ASSERT_TRUE(memory.write_value(address++, static_cast<std::uint8_t>(byte)));
  }

  /// Runs from `state` until the processor halts, or leaves otherwise; `state` is what it leaves behind.
  ExitReason run() {
    state.activity = x86::Activity::Running;
    vcpu->load(state);
    const Exit exit = vcpu->run();
    vcpu->store(state);
    return exit.reason;
  }
  ExitReason run(const std::function<void(asmjit::x86::Assembler&)>& write) {
    place(kCodeAddress, assemble(kCodeAddress, [&write](asmjit::x86::Assembler& assembler) {
            write(assembler);
            assembler.hlt();
          }));
    state.rip = kCodeAddress;
    return run();
  }
  /// Runs the code that begins at `address` until the processor halts; the exception that led there, if one did.
  std::optional<unsigned> exception_of(std::uint64_t address) {
    state.rip = address;
    EXPECT_EQ(run(), ExitReason::Halted);
    return exception();
  }
  /// The exception that ended the program, if one did.
  std::optional<unsigned> exception() const {
    if (state.rip <= kHandlers || state.rip > kHandlers + 256 * kHandlerSize) return std::nullopt;
    return static_cast<unsigned>((state.rip - 1 - kHandlers) / kHandlerSize);
  }
  /// RIP that the exception's frame holds.
  std::uint64_t faulting_rip(bool error_code = false) {
    return peek_physical<std::uint64_t>(state.gpr[x86::kRsp] + (error_code ? 8 : 0));
  }
  std::uint64_t status_flags() const { return state.rflags() & x86::rflags::kStatus; }

 private:
  CpuState initial() {
    CpuState made = long_mode(memory);
    install_handlers(memory, made);
    return made;
  }
};

/// The same once for each engine; DOPPEL_TEST_ON_EACH_ENGINE() instantiates it.
class OnEachEngine : public GuestProgram, public ::testing::WithParamInterface<EngineName> {
 protected:
  OnEachEngine() : GuestProgram(GetParam()) {}
};

}  // namespace doppel::engine::test
