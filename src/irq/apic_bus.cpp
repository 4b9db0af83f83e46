#include "irq/apic_bus.h"

#include "irq/local_apic.h"

namespace doppel::irq {

void ApicBus::deliver(const Message& message) {
  if (message.delivery_mode != DeliveryMode::LowestPriority) {
    for (LocalApic* apic : apics_) {
      if (apic->is_addressed_by(message)) apic->accept(message);
    }
    return;
  }
  // The arbitration is model-specific: lowest task priority first. Between equals the vector decides, which spreads
  // devices over processors, keeps each at home on one, and needs no state.
  unsigned lowest = 0x100;
  unsigned equals = 0;
  for (const LocalApic* apic : apics_) {
    if (!apic->is_addressed_by(message) || !apic->software_enabled()) continue;
    if (apic->task_priority() < lowest) {
      lowest = apic->task_priority();
      equals = 0;
    }
    if (apic->task_priority() == lowest) ++equals;
  }
  if (equals == 0) return;
  unsigned skip = message.vector % equals;
  LocalApic* fallback = nullptr;
  for (LocalApic* apic : apics_) {
    if (!apic->is_addressed_by(message) || !apic->software_enabled()) continue;
    fallback = apic;
    if (apic->task_priority() == lowest && skip-- == 0) break;
  }
  // Priorities may have moved since the first look; an interrupt is never dropped for that.
  if (fallback != nullptr) fallback->accept(message);
}

void ApicBus::deliver_to_all(const Message& message, const LocalApic* except) {
  for (LocalApic* apic : apics_) {
    if (apic != except) apic->accept(message);
  }
}

void ApicBus::broadcast_eoi(std::uint8_t vector) {
  for (EoiSink* sink : eoi_sinks_) sink->end_of_interrupt(vector);
}

}  // namespace doppel::irq
