#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "state/visitor.h"

namespace doppel::bus {

/// The MSI-X table and pending bits of one function (PCI local bus specification 3.0, 6.8.2). Its capability's message
/// control word stays in the function's configuration space; the function passes its bits on. Guarded by the function's
/// lock.
class PciMsix {
 public:
  static constexpr unsigned kEntryBytes = 16;
  static constexpr std::uint8_t kCapabilityId = 0x11;
  /// Message control: enable, function mask.
  static constexpr std::uint16_t kEnable = 1 << 15, kFunctionMask = 1 << 14;

  using Send = std::function<void(std::uint64_t address, std::uint32_t data)>;

  PciMsix(unsigned vectors, Send send);

  unsigned vectors() const { return static_cast<unsigned>(table_.size()); }
  bool enabled() const { return enabled_; }

  /// The driver has written message control.
  void set_control(std::uint16_t control);
  /// Sends the vector's message, or remembers it while it is masked. Nothing when MSI-X is off or there is no such
  /// vector.
  void trigger(unsigned vector);

  /// Dword and qword accesses, the only ones allowed; others read as zero and write nothing.
  std::uint64_t read_table(std::uint64_t offset, unsigned size) const;
  void write_table(std::uint64_t offset, unsigned size, std::uint64_t value);
  std::uint64_t read_pending(std::uint64_t offset, unsigned size) const;

  void reset();
  void describe(state::Visitor& v);

 private:
  struct Entry {
    std::uint64_t address = 0;
    std::uint32_t data = 0;
    std::uint32_t vector_control = 1;  ///< bit 0: masked
    bool pending = false;
  };
  bool masked(const Entry& entry) const { return function_mask_ || (entry.vector_control & 1) != 0; }
  void deliver_pending(Entry& entry);
  std::uint32_t dword(std::uint64_t offset) const;

  std::vector<Entry> table_;
  const Send send_;
  bool enabled_ = false;
  bool function_mask_ = false;
};

}  // namespace doppel::bus
