#pragma once

#include <atomic>

#include "engine/guest_program.h"

namespace doppel::engine::test {

/// Interrupts that any thread posts.
class PostedInterrupts : public x86::test::FakeIo {
 public:
  static constexpr std::uint8_t kVector = 0x40;
  std::atomic<unsigned> waiting{0};
  std::atomic<unsigned> taken{0};

  bool interrupt_pending() override { return waiting != 0; }
  std::uint8_t acknowledge_interrupt() override {
    --waiting;
    ++taken;
    return kVector;
  }
};

}  // namespace doppel::engine::test
