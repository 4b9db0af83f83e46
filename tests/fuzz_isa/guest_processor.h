#pragma once

#include <memory>
#include <span>

#include "engine/lone_processor.h"
#include "fuzz_isa/case.h"

namespace doppel::fuzz_isa {

/// An engine's processor in the surroundings that Linux gives a program: user pages where NativeProcessor has its own,
/// Linux's selectors, and handlers at CPL 0 that halt.
class GuestProcessor : engine::test::LoneProcessor {
 public:
  explicit GuestProcessor(std::unique_ptr<engine::Engine> engine);

  /// Before run(): all of the code region, and what the data pages hold at the start of each case.
  void prepare(std::span<const std::uint8_t> code, const Memory& memory);
  Outcome run(const Image& start);
  /// What the last case left in the writable pages.
  std::span<const std::uint8_t> writable() const { return {data_, kWritableSize}; }

  const x86::CpuidModel& cpuid() const { return cpuid_; }
  /// From any thread: ends a run() that takes too long.
  void interrupt() { attention_.set(x86::Attention::kStop); }

 private:
  void build_tables();

  x86::CpuState base_;
  Memory template_{};
  bool dirty_ = true;  ///< the last case has changed memory
  std::uint8_t* data_;
};

}  // namespace doppel::fuzz_isa
