#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "devices/manual_time.h"
#include "irq/gsi_router.h"
#include "irq/io_apic.h"
#include "irq/local_apic.h"
#include "irq/pic.h"

namespace doppel::irq {
namespace {

/// One processor that looks at its local APIC only when it has been signalled, and senders that each wait for their
/// last interrupt to be served before they send the next: a lost interrupt or a lost signal hangs the test.
TEST(InterruptConcurrency, NothingIsLostBetweenThreads) {
  constexpr unsigned kRounds = 2000;
  constexpr std::uint8_t kMessageVector = 0x41, kEdgeVector = 0x51, kLevelVector = 0x61;
  constexpr unsigned kEdgePin = 4, kLevelPin = 9;

  test::ManualTime time;
  ApicBus bus;
  IoApic io_apic(bus);
  Pic pic;
  GsiRouter router(pic, io_apic);
  LocalApic apic({.apic_id = 0, .bootstrap = true}, bus, time.clock, time.timers);
  bus.attach(io_apic);
  pic.connect_intr(IrqLine(apic, LocalApic::kLint0));
  pic.write(Pic::kMaster, 1, 0xFF);
  std::atomic<bool> attention = false;
  apic.set_on_signal([&](ApicSignal, std::uint8_t) { attention.store(true, std::memory_order_release); });
  apic.write(0xF0, 4, 0x1FF);
  const auto program = [&](unsigned pin, std::uint32_t low) {
    io_apic.write(0x00, 0x10 + 2 * pin);
    io_apic.write(0x10, low);
  };
  program(kEdgePin, kEdgeVector);
  program(kLevelPin, 0x8000 | kLevelVector);

  std::array<std::atomic<unsigned>, 256> served{};
  std::atomic<bool> done = false;
  std::thread processor([&] {
    while (!done.load(std::memory_order_acquire)) {
      if (!attention.exchange(false, std::memory_order_acq_rel)) {
        std::this_thread::yield();
        continue;
      }
      while (apic.pending()) {
        const std::uint8_t vector = apic.acknowledge();
        if (vector == kLevelVector) router.set_input(kLevelPin, false);  // the driver satisfies its device
        apic.write(0xB0, 4, 0);
        served[vector].fetch_add(1, std::memory_order_acq_rel);
      }
    }
  });
  const auto sender = [&](std::uint8_t vector, const auto& send) {
    return std::thread([&, vector, send] {
      for (unsigned round = 0; round < kRounds; ++round) {
        send();
        while (served[vector].load(std::memory_order_acquire) <= round) std::this_thread::yield();
      }
    });
  };
  std::vector<std::thread> senders;
  senders.push_back(sender(kMessageVector, [&] { bus.deliver({.vector = kMessageVector}); }));
  senders.push_back(sender(kEdgeVector, [&] {
    router.set_input(kEdgePin, true);
    router.set_input(kEdgePin, false);
  }));
  senders.push_back(sender(kLevelVector, [&] { router.set_input(kLevelPin, true); }));
  for (std::thread& thread : senders) thread.join();
  done.store(true, std::memory_order_release);
  processor.join();

  EXPECT_EQ(served[kMessageVector], kRounds);
  EXPECT_EQ(served[kEdgeVector], kRounds);
  EXPECT_EQ(served[kLevelVector], kRounds);
}

}  // namespace
}  // namespace doppel::irq
