#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bus/pci_function.h"
#include "bus/pci_msix.h"
#include "devices/virtio/queue.h"
#include "memory/guest_memory.h"

namespace doppel::devices::virtio {

/// Device types (virtio 1.2, chapter 5).
enum class DeviceType : std::uint16_t {
  Network = 1,
  Block = 2,
  Console = 3,
  Entropy = 4,
  Balloon = 5,
  Socket = 19,
  FileSystem = 26,
};

/// Feature bits that are not a device type's own (virtio 1.2, chapter 6).
namespace feature {
inline constexpr unsigned kIndirectDescriptors = 28, kEventIndex = 29, kVersion1 = 32;
}

/// A virtio 1.x device on PCI (virtio 1.2, 4.1): configuration structures, virtqueues, interrupts, device status. The
/// device types derive from it and see no PCI.
///
/// One lock, the device's, guards everything; the hooks below are called with it held, in a vCPU's thread (on_notify,
/// on_resume and on_reset also in the machine's). Doorbells are handled inline, in the thread that rings them.
///
/// A driver that breaks the rules gets a device that needs a reset (2.1.2) and does nothing until then.
class Device : public bus::PciFunction {
 public:
  struct Traits {
    DeviceType type;
    std::uint32_t class_code;           ///< of PCI
    std::uint64_t features = 0;         ///< the device type's own
    std::vector<std::uint16_t> queues;  ///< their largest sizes, powers of two
  };

  Device(std::string name, const Traits& traits, memory::GuestMemory& memory);

  std::string_view name() const override { return name_; }
  void reset(bus::ResetKind kind) override;
  void describe(state::Visitor& v) override;
  std::uint64_t bar_read(unsigned bar, std::uint64_t offset, unsigned size) override;
  void bar_write(unsigned bar, std::uint64_t offset, unsigned size, std::uint64_t value) override;

  /// While the machine is paused, the device neither reads nor writes guest memory: pause() returns when all that was
  /// in flight has been completed; resume() looks at every queue, since a doorbell may have been lost to the pause.
  void pause();
  void resume();

  // --- Where the structures lie in BAR 0; each has a page of its own ---
  static constexpr std::uint64_t kCommonConfig = 0x0000, kIsr = 0x1000, kDeviceConfig = 0x2000, kNotify = 0x3000,
                                 kMsixTable = 0x4000, kMsixPending = 0x5000, kBarBytes = 0x8000;
  static constexpr std::uint32_t kNotifyMultiplier = 4;

 protected:
  // --- What a device type does ---
  /// The driver has said DRIVER_OK.
  virtual void on_driver_ok() {}
  /// Forget everything; nothing may be in flight afterwards.
  virtual void on_reset() {}
  /// The driver has rung the doorbell of a queue that is on.
  virtual void on_notify(unsigned queue) = 0;
  /// Complete what is in flight, without starting more. Called without the lock.
  virtual void drain() {}
  /// The device configuration space.
  virtual std::span<const std::uint8_t> device_config() { return {}; }
  virtual void write_device_config(std::uint64_t offset, unsigned size, std::uint64_t value);
  /// Fields from 50 on.
  virtual void describe_device(state::Visitor&) {}

  // --- What it may use, with the lock held ---
  Queue& queue(unsigned index) { return queues_[index]; }
  memory::GuestMemory& memory() { return memory_; }
  bool has_feature(unsigned bit) const { return (driver_features_ >> bit & 1) != 0; }
  /// Whether the driver works with the device: it is up, not failed, not paused.
  bool is_active() const;
  bool is_paused() const { return paused_; }
  /// Takes the next request of a queue; false when there is none, or the driver has broken the queue, which fails the
  /// device.
  bool take(unsigned queue, Chain& chain);
  /// Asks for a doorbell; true when requests have come in between, which ring none.
  bool rest(unsigned queue);
  /// Interrupts for what was pushed, if the driver wants it.
  void interrupt(unsigned queue);
  void config_changed();
  /// The driver has broken the rules: DEVICE_NEEDS_RESET.
  void fail(std::string_view reason);

  void before_config_read(unsigned offset, unsigned size) override;
  void after_config_write(unsigned offset, unsigned size) override;

 private:
  void add_structure(std::uint8_t type, std::uint64_t offset, std::uint64_t length);
  std::uint64_t read_register(std::uint64_t offset, unsigned size);
  void write_register(std::uint64_t offset, unsigned size, std::uint64_t value);
  std::uint64_t read_common(std::uint64_t offset, unsigned size) const;
  void write_common(std::uint64_t offset, unsigned size, std::uint64_t value);
  void write_status(std::uint8_t value);
  void enable_queue();
  void notify(unsigned queue);
  void signal(std::uint16_t vector, std::uint8_t isr_bit);
  void reset_device();

  const std::string name_;
  const std::uint64_t offered_features_;
  memory::GuestMemory& memory_;
  std::vector<Queue> queues_;
  bus::PciMsix msix_;
  unsigned msix_capability_ = 0;
  unsigned access_capability_ = 0;
  bool paused_ = false;

  std::uint32_t device_feature_select_ = 0;
  std::uint32_t driver_feature_select_ = 0;
  std::uint64_t driver_features_ = 0;
  std::uint16_t config_vector_ = Queue::kNoVector;
  std::uint8_t status_ = 0;
  std::uint8_t generation_ = 0;
  std::uint16_t queue_select_ = 0;
  std::uint8_t isr_ = 0;
};

}  // namespace doppel::devices::virtio
