#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "bus/device.h"

namespace doppel::bus {

/// What a PCI function may ask of the world above its bus. Any thread; functions call it with their own lock held.
class PciUpstream {
 public:
  virtual ~PciUpstream() = default;
  /// A message-signalled interrupt: the posted write of `data` to `address`.
  virtual void send_message(std::uint64_t address, std::uint32_t data) = 0;
  /// The level of interrupt pin INTA# of the function in `slot`.
  virtual void set_intx(unsigned slot, bool asserted) = 0;
};

/// Offsets into the configuration header of type 0 (PCI local bus specification 3.0, 6.1).
namespace pci_register {
inline constexpr unsigned kVendorId = 0x00, kDeviceId = 0x02, kCommand = 0x04, kStatus = 0x06, kRevisionId = 0x08,
                          kClassCode = 0x09, kCacheLineSize = 0x0C, kHeaderType = 0x0E, kBar0 = 0x10,
                          kSubsystemVendorId = 0x2C, kSubsystemId = 0x2E, kCapabilities = 0x34, kInterruptLine = 0x3C,
                          kInterruptPin = 0x3D, kHeaderEnd = 0x40;
}  // namespace pci_register

namespace pci_command {
inline constexpr std::uint16_t kIoSpace = 1 << 0, kMemorySpace = 1 << 1, kBusMaster = 1 << 2, kParity = 1 << 6,
                               kSerr = 1 << 8, kInterruptDisable = 1 << 10;
}

/// One function on a PCI bus: its configuration space with base address registers, capabilities list and INTx, and the
/// handlers of what the BARs decode (PCI local bus specification 3.0, chapter 6).
///
/// config_read() and config_write() take the device's lock; bar_read() and bar_write() are called without, by any vCPU,
/// because doorbells must not queue up behind a slow register: implementations take lock() where they need it. All else
/// is called with the lock held, or while the machine is built or stopped.
class PciFunction : public Device {
 public:
  static constexpr unsigned kBars = 6;
  static constexpr unsigned kConfigBytes = 256;
  /// The base of a BAR that decodes nothing.
  static constexpr std::uint64_t kUnmapped = ~std::uint64_t{0};

  enum class BarKind : std::uint8_t { None, Io, Memory32, Memory64 };
  struct Bar {
    BarKind kind = BarKind::None;
    bool prefetchable = false;
    std::uint64_t size = 0;  ///< a power of two
  };

  struct Identity {
    std::uint16_t vendor_id;
    std::uint16_t device_id;
    std::uint8_t revision_id = 0;
    std::uint32_t class_code = 0;  ///< base class, subclass, interface: 24 bits
    std::uint16_t subsystem_vendor_id = 0;
    std::uint16_t subsystem_id = 0;
    bool uses_intx = false;
  };

  explicit PciFunction(const Identity& identity);

  /// Set while the machine is built. `upstream` outlives the function.
  void connect(PciUpstream& upstream, unsigned slot);
  unsigned slot() const { return slot_; }

  /// `size` is 1, 2 or 4, `offset` below kConfigBytes, aligned to the size.
  std::uint32_t config_read(unsigned offset, unsigned size);
  void config_write(unsigned offset, unsigned size, std::uint32_t value);

  virtual std::uint64_t bar_read(unsigned bar, std::uint64_t offset, unsigned size) = 0;
  virtual void bar_write(unsigned bar, std::uint64_t offset, unsigned size, std::uint64_t value) = 0;

  const std::array<Bar, kBars>& bars() const { return bars_; }
  /// Where a BAR decodes now, or kUnmapped; any thread, without a lock.
  std::uint64_t bar_base(unsigned bar) const { return bases_[bar].load(std::memory_order_relaxed); }
  /// Does what firmware does at boot: gives a BAR its address, and turns decoding on.
  void assign_bar(unsigned bar, std::uint64_t address);
  void assign_interrupt_line(std::uint8_t line);

  void reset(ResetKind kind) override;
  void describe(state::Visitor& v) override;

 protected:
  /// For constructors: what the function has.
  void add_bar(unsigned index, const Bar& bar);
  /// Appends a capability of `body.size()` bytes after its ID and next pointer; the bits of `writable` (as long as
  /// `body`, or empty) can be written. Returns its offset.
  unsigned add_capability(std::uint8_t id, std::span<const std::uint8_t> body,
                          std::span<const std::uint8_t> writable = {});

  /// Hooks around plain register accesses; the lock is held. before_config_read may refresh registers,
  /// after_config_write sees what has been written.
  virtual void before_config_read(unsigned offset, unsigned size);
  virtual void after_config_write(unsigned offset, unsigned size);

  std::uint16_t command() const { return config16(pci_register::kCommand); }
  std::uint8_t config8(unsigned offset) const { return config_[offset]; }
  std::uint16_t config16(unsigned offset) const;
  std::uint32_t config32(unsigned offset) const;
  void set_config(unsigned offset, unsigned size, std::uint32_t value);

  /// Asserts or releases INTA#, unless the driver has disabled it.
  void set_intx(bool asserted);
  /// Sends a message, if the function is bus master.
  void send_message(std::uint64_t address, std::uint32_t data);

 private:
  void update_decoding();
  void update_intx();

  std::array<std::uint8_t, kConfigBytes> config_{};
  std::array<std::uint8_t, kConfigBytes> initial_{};   ///< after reset
  std::array<std::uint8_t, kConfigBytes> writable_{};  ///< bits that software may change
  std::array<Bar, kBars> bars_{};
  std::array<std::atomic<std::uint64_t>, kBars> bases_;
  unsigned last_capability_ = 0;
  unsigned next_free_ = pci_register::kHeaderEnd;
  PciUpstream* upstream_ = nullptr;
  unsigned slot_ = 0;
  bool intx_ = false;         ///< what the function wants of INTA#
  bool intx_driven_ = false;  ///< what the wire carries
};

}  // namespace doppel::bus
