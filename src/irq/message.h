#pragma once

#include <cstdint>

namespace doppel::irq {

/// Delivery mode, as the ICR, the LVT, the redirection table and MSI data encode it (SDM vol. 3, 11.6.1).
enum class DeliveryMode : std::uint8_t {
  Fixed = 0,
  LowestPriority = 1,
  Smi = 2,
  Reserved = 3,
  Nmi = 4,
  Init = 5,
  StartUp = 6,
  ExtInt = 7,
};

enum class DestinationMode : std::uint8_t { Physical = 0, Logical = 1 };
enum class TriggerMode : std::uint8_t { Edge = 0, Level = 1 };

/// Reaches every local APIC, in whichever mode each of them is.
inline constexpr std::uint32_t kBroadcast = 0xFFFF'FFFF;

/// An 8-bit destination field (IOAPIC, MSI, the xAPIC's ICR) as a message carries it: FFh is everybody.
constexpr std::uint32_t widen_destination(std::uint8_t destination) {
  return destination == 0xFF ? kBroadcast : destination;
}

/// What travels between I/O APICs, MSI devices and local APICs.
struct Message {
  std::uint32_t destination = 0;
  DestinationMode destination_mode = DestinationMode::Physical;
  DeliveryMode delivery_mode = DeliveryMode::Fixed;
  std::uint8_t vector = 0;
  TriggerMode trigger_mode = TriggerMode::Edge;

  friend bool operator==(const Message&, const Message&) = default;
};

/// Where interrupt messages go: the ApicBus, or a test's recorder. Any thread.
class MessageSink {
 public:
  virtual ~MessageSink() = default;
  virtual void deliver(const Message& message) = 0;
};

/// Hears the EOI broadcasts of local APICs for level-triggered vectors (SDM vol. 3, 11.8.5). Any thread.
class EoiSink {
 public:
  virtual ~EoiSink() = default;
  virtual void end_of_interrupt(std::uint8_t vector) = 0;
};

}  // namespace doppel::irq
