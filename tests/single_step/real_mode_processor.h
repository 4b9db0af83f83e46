#pragma once

#include <memory>
#include <optional>
#include <string>

#include "engine/lone_processor.h"
#include "single_step/vectors.h"

namespace doppel::single_step {

/// An engine's processor in real mode, with 16 MiB of RAM, that executes one instruction at a time.
class RealModeProcessor : engine::test::LoneProcessor {
 public:
  /// `address_mask`: of the processor that the vectors come from, to whose width addresses wrap.
  RealModeProcessor(std::unique_ptr<engine::Engine> engine, std::uint32_t address_mask);

  /// What the instruction left that the vector does not say, one thing a line. `halts`: the vector ends behind a HLT
  /// that follows the instruction.
  std::string differences(const Vector& vector, bool halts);
  /// Of the last one: whether it went to the handler of this exception.
  bool took(std::uint8_t exception) const;
  /// Or had no stack for that.
  bool has_shut_down() const { return state_.activity == x86::Activity::Shutdown; }
  std::uint32_t value(unsigned reg) const;

 private:
  void put(const Snapshot& snapshot);
  std::optional<std::uint32_t> wrapped(std::uint32_t address) const;
  std::uint8_t byte_at(std::uint32_t address, std::uint8_t before) const;
  void step(const Vector& vector);

  std::uint32_t address_mask_;
  std::array<std::uint32_t, 32> handlers_{};  ///< the vector's interrupt table
};

}  // namespace doppel::single_step
