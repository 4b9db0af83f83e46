#pragma once

#include <cstdint>
#include <vector>

#include "irq/message.h"

namespace doppel::irq {

class LocalApic;

/// Carries messages to the local APICs that they name, and EOIs back to the I/O APICs (SDM vol. 3, 11.6.2).
///
/// Everything is attached while the machine is built; from then on any thread may send, without a lock. The bus owns
/// nothing.
class ApicBus : public MessageSink {
 public:
  void attach(LocalApic& apic) { apics_.push_back(&apic); }
  void attach(EoiSink& sink) { eoi_sinks_.push_back(&sink); }

  /// To the local APICs that the destination names; lowest priority picks one of them.
  void deliver(const Message& message) override;
  /// The "all excluding self" and "all including self" shorthands; the destination is ignored.
  void deliver_to_all(const Message& message, const LocalApic* except);
  void broadcast_eoi(std::uint8_t vector);

  const std::vector<LocalApic*>& apics() const { return apics_; }

 private:
  std::vector<LocalApic*> apics_;
  std::vector<EoiSink*> eoi_sinks_;
};

}  // namespace doppel::irq
