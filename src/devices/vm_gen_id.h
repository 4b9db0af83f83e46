#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <string_view>

#include "bus/device.h"
#include "memory/guest_memory.h"

namespace doppel::devices {

/// The VM generation identifier (Microsoft's "Virtual Machine Generation ID" specification): 16 bytes in guest RAM that
/// change whenever the machine becomes another, by restore or clone. The ACPI tables say where they are.
class VmGenId : public bus::Device {
 public:
  using Guid = std::array<std::byte, 16>;

  VmGenId(memory::GuestMemory& memory, memory::GuestPhysical address, const Guid& guid)
      : memory_(memory), address_(address), initial_(guid), guid_(guid) {}

  /// How the guest is told: the general-purpose event whose ACPI method notifies it. Called by change().
  void set_on_changed(std::function<void()> on_changed) { on_changed_ = std::move(on_changed); }

  std::string_view name() const override { return "vm_gen_id"; }
  /// Writes the identifier into RAM, which a reset has cleared.
  void reset(bus::ResetKind kind) override {
    if (kind == bus::ResetKind::Cold) guid_ = initial_;
    publish();
  }
  void describe(state::Visitor& v) override { v.field(1, "guid", std::span<std::byte>(guid_)); }

  const Guid& guid() const { return guid_; }
  /// The machine is another one from now on. Takes lock(). Any thread.
  void change(const Guid& guid) {
    {
      const std::lock_guard guard(lock());
      guid_ = guid;
      publish();
    }
    if (on_changed_) on_changed_();
  }

 private:
  void publish() { memory_.write(address_, guid_); }

  memory::GuestMemory& memory_;
  const memory::GuestPhysical address_;
  const Guid initial_;
  Guid guid_;
  std::function<void()> on_changed_;
};

}  // namespace doppel::devices
