#include "irq/msi.h"

namespace doppel::irq {

std::optional<Message> decode_msi(std::uint64_t address, std::uint32_t data) {
  constexpr std::uint64_t kRange = 0xFEE;
  constexpr std::uint64_t kLogical = 1 << 2, kRedirectionHint = 1 << 3;
  if (address >> 20 != kRange) return std::nullopt;

  Message message;
  message.vector = static_cast<std::uint8_t>(data);
  message.delivery_mode = static_cast<DeliveryMode>((data >> 8) & 7);
  message.trigger_mode = ((data >> 15) & 1) != 0 ? TriggerMode::Level : TriggerMode::Edge;
  const auto destination = static_cast<std::uint8_t>(address >> 12);
  message.destination = widen_destination(destination);
  // The SDM lets the destination mode count only beside the redirection hint; processors, and so operating systems,
  // heed it always.
  if ((address & kLogical) != 0) {
    message.destination_mode = DestinationMode::Logical;
    message.destination = destination;
  }
  const bool redirect = (address & kRedirectionHint) != 0;
  if (redirect && message.delivery_mode == DeliveryMode::Fixed) message.delivery_mode = DeliveryMode::LowestPriority;
  return message;
}

}  // namespace doppel::irq
